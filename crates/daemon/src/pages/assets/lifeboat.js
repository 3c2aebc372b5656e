// What is better with a script: parts of the page are kept up to date without losing place or focus, a run is followed as it
// goes on, times stay true, commands can be copied. Without it every page is whole, and loads itself again.
(() => {
  "use strict";
  const body = document.body;
  const ahead = Date.parse(body.dataset.now) - Date.now(); // of the daemon's clock, which is the one that counts
  let lookedAt = body.dataset.now;
  const parts = (page) => Array.from(page.querySelectorAll("[data-part]")).filter((part) => part.id);
  const known = new Map(parts(document).map((part) => [part.id, part.outerHTML])); // as the daemon sent them

  // Times

  const span = (seconds) => {
    if (seconds < 99.5) return `${Math.round(seconds)} s`;
    if (Math.round(seconds) === 3600) return "1 h";
    if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
    if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
    return `${Math.round(seconds / 86400)} d`;
  };
  const tick = () => {
    for (const time of document.querySelectorAll("time[data-ago]")) {
      const seconds = (Date.now() + ahead - Date.parse(time.dateTime)) / 1000;
      const text = seconds < 0 ? `in ${span(-seconds)}` : seconds < 1 ? "now" : `${span(seconds)} ago`;
      if (time.textContent !== text) time.textContent = text;
    }
  };

  // Commands

  const addCopyButtons = (root) => {
    if (!navigator.clipboard) return;
    for (const command of root.querySelectorAll("[data-copy]")) {
      if (command.nextElementSibling?.classList.contains("copy")) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "copy";
      button.textContent = "Copy";
      button.setAttribute("aria-label", `Copy: ${command.textContent}`);
      button.addEventListener("click", async () => {
        const was = await navigator.clipboard.writeText(command.textContent).then(() => true, () => false);
        button.textContent = was ? "Copied" : "Not copied";
        say(was ? "Copied" : "Could not be copied");
        setTimeout(() => { button.textContent = "Copy"; }, 2000);
      });
      command.after(button);
    }
  };

  // What is heard

  const say = (text) => { document.getElementById("said").textContent = text; };
  const sayings = () => Array.from(document.querySelectorAll("[data-say]"), (element) => element.textContent.trim()).join(". ");
  const tell = (isLost) => {
    const place = document.getElementById("connection");
    const of = new Date(lookedAt).toISOString().slice(11, 19);
    const text = isLost ? `No connection to the daemon. What you see is of ${of} UTC; trying again.` : "";
    if (place.textContent !== text) place.textContent = text;
  };

  // Parts

  const focusable = "a[href], button, input, select, textarea, summary, [tabindex]";
  const keepFocus = (holder, change) => {
    const focused = holder.contains(document.activeElement) ? document.activeElement : null;
    const at = focused ? Array.from(holder.querySelectorAll(focusable)).indexOf(focused) : -1;
    const href = focused?.getAttribute("href");
    const open = Array.from(holder.querySelectorAll("details"), (details) => details.open);
    const scrolled = Array.from(holder.querySelectorAll(".notes, pre"), (box) => box.scrollTop);
    const fresh = change();
    fresh.querySelectorAll("details").forEach((details, index) => { details.open = open[index] ?? details.open; });
    fresh.querySelectorAll(".notes, pre").forEach((box, index) => { box.scrollTop = scrolled[index] ?? 0; });
    addCopyButtons(fresh);
    if (!focused) return;
    const same = href && Array.from(fresh.querySelectorAll("a[href]")).find((link) => link.getAttribute("href") === href);
    (same || fresh.querySelectorAll(focusable)[at] || document.getElementById("main")).focus({ preventScroll: true });
  };
  const isSelected = (part) => {
    const selection = getSelection();
    return selection !== null && !selection.isCollapsed && part.contains(selection.anchorNode);
  };
  const take = (page) => {
    const [y, said] = [scrollY, sayings()];
    const fresh = new Map(parts(page).map((part) => [part.id, part]));
    const isOther = fresh.size !== known.size || Array.from(fresh.keys()).some((id) => !known.has(id));
    if (isOther) {
      // Parts came or went: the content is another.
      const main = document.getElementById("main");
      known.clear();
      for (const [id, part] of fresh) known.set(id, part.outerHTML);
      for (const id of ["troubles", "looked"]) document.getElementById(id)?.replaceWith(document.adoptNode(page.getElementById(id)));
      keepFocus(main, () => { main.replaceChildren(...page.getElementById("main").childNodes); return main; });
    } else {
      for (const [id, part] of fresh) {
        const old = document.getElementById(id);
        const text = part.outerHTML;
        if (!old || known.get(id) === text || isSelected(old)) continue;
        known.set(id, text);
        keepFocus(old, () => { const moved = document.adoptNode(part); old.replaceWith(moved); return moved; });
      }
    }
    document.title = page.title;
    if (Math.abs(scrollY - y) > 1) scrollTo({ top: y, behavior: "instant" });
    tick();
    if (sayings() !== said) say(sayings());
  };

  let [isAsking, isWanted] = [false, false];
  const refresh = async () => {
    if (isAsking) { isWanted = true; return; }
    isAsking = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, signal: AbortSignal.timeout(20000) });
      if (answer.redirected && new URL(answer.url).pathname === "/login") { location.reload(); return; }
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (page.getElementById("main") && page.body.dataset.now) {
        lookedAt = page.body.dataset.now;
        take(page);
        follow();
        tell(false);
      }
    } catch {
      tell(true);
    } finally {
      isAsking = false;
      if (isWanted) { isWanted = false; soon(); }
    }
  };
  let timer = 0;
  const soon = (delay = 500) => { if (!timer) timer = setTimeout(() => { timer = 0; refresh(); }, delay); };

  // A run, as it goes on

  let stream = null;
  const follow = () => {
    const run = document.querySelector("[data-run]");
    if (!run) { stream?.close(); stream = null; return; }
    if (stream && stream.readyState !== EventSource.CLOSED) return;
    stream = new EventSource(`/api/v1/runs/${encodeURIComponent(run.dataset.run)}/events`);
    const heard = () => soon();
    for (const name of ["message", "end"]) stream.addEventListener(name, heard);
    stream.addEventListener("open", () => tell(false));
    stream.addEventListener("error", () => { tell(true); soon(3000); });
  };

  // Find while typing

  const form = document.querySelector("form.filter");
  let typing = 0;
  form?.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      const query = new URLSearchParams(Array.from(new FormData(form)).filter(([, value]) => value !== ""));
      history.replaceState(null, "", query.size ? `${form.getAttribute("action")}?${query}` : form.getAttribute("action"));
      refresh();
    }, 250);
  });

  addCopyButtons(document);
  tick();
  setInterval(tick, 5000);
  follow();
  const every = Number(body.dataset.every);
  if (every > 0) {
    // Where every second counts, and no stream tells of changes, it is asked more often.
    const least = document.querySelector("[data-quick]") ? 3 : 15;
    setInterval(() => { if (!document.hidden) refresh(); }, Math.max(least, every / 4) * 1000);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) soon(0); });
  }
})();
