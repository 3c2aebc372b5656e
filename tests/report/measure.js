// What a reader would see as broken: a page or box wider than its place, text that leaves its box, texts on each other.
(() => {
  const found = [];
  const say = (what, element) => {
    if (found.length < 40) found.push(`${what}: <${element.tagName.toLowerCase()} class="${element.getAttribute("class") || ""}"> ${(element.textContent || "").trim().slice(0, 60)}`);
  };
  const root = document.documentElement;
  const width = root.clientWidth;
  if (root.scrollWidth > width) say(`the page is ${root.scrollWidth} wide in ${width}`, root);
  // What is for screen readers alone; on a narrow screen, the heads of tables are.
  const hidden = (element) => { if (element.closest(".unseen, .skip, details:not([open]) > :not(summary)")) return true; const head = element.closest("thead"); return head !== null && getComputedStyle(head).position === "absolute"; };
  const boxOf = (element) => {
    let box = element;
    while (getComputedStyle(box).display.startsWith("inline") && box.parentElement) box = box.parentElement;
    return box;
  };
  for (const element of document.body.querySelectorAll("*")) {
    if (element.closest("svg") || hidden(element)) continue;
    if (getComputedStyle(element).display === "inline" || element.clientWidth === 0) continue;
    if (element.scrollWidth > element.clientWidth + 1) say(`cut: ${element.scrollWidth} in ${element.clientWidth}`, element);
  }
  const texts = [];
  const add = (rect, owner, node) => {
    if (rect.width < 1 || rect.height < 1) return;
    if (rect.left < -1 || rect.right > width + 1) say("text beside the page", owner);
    // Without the room above and below the letters, which lines share.
    texts.push({ left: rect.left + 1, right: rect.right - 1, top: rect.top + rect.height * 0.3, bottom: rect.bottom - rect.height * 0.3, owner, node });
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const owner = node.parentElement;
    if (!node.data.trim() || hidden(owner) || ["TITLE", "title", "desc"].includes(owner.tagName)) continue;
    if (owner.closest("svg")) {
      const rect = owner.getBoundingClientRect();
      const outer = owner.closest("svg.chart").getBoundingClientRect();
      if (rect.left < outer.left - 1 || rect.right > outer.right + 1 || rect.top < outer.top - 1 || rect.bottom > outer.bottom + 1) say("text leaves its chart", owner);
      if (parseFloat(getComputedStyle(owner).fontSize) < 10) say("small print in a chart", owner);
      add(rect, owner, node);
      continue;
    }
    range.selectNodeContents(node);
    const box = boxOf(owner);
    const outer = box.getBoundingClientRect();
    for (const rect of range.getClientRects()) {
      if (rect.left < outer.left - 1.5 || rect.right > outer.right + 1.5 || rect.top < outer.top - 4 || rect.bottom > outer.bottom + 4) say("text leaves its box", box);
      add(rect, owner, node);
    }
  }
  texts.sort((a, b) => a.top - b.top);
  let open = [];
  for (const text of texts) {
    open = open.filter((other) => other.bottom > text.top);
    for (const other of open) {
      if (other.node !== text.node && other.left < text.right && text.left < other.right) {
        say(`on each other: "${other.node.data.trim().slice(0, 30)}" and`, text.owner);
      }
    }
    open.push(text);
  }
  const size = parseFloat(getComputedStyle(document.body).fontSize);
  if (size < 14) say(`letters of ${size} pixels`, document.body);
  return { found, texts: texts.length, charts: document.querySelectorAll("svg.chart[role=img]").length };
})()
