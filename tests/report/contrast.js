// The contrast of the style sheet's colours as the browser resolves them, by WCAG 2.
(() => {
  const probe = document.createElement("span");
  document.body.append(probe);
  const resolve = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((part) => { const c = part / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const pairs = [["--good", "--good-back"], ["--doubt", "--doubt-back"], ["--bad", "--bad-back"]];
  for (const back of ["--page", "--raised"]) for (const text of ["--ink", "--soft", "--link", "--good", "--doubt", "--bad"]) pairs.push([text, back]);
  for (const back of ["--good-back", "--doubt-back", "--bad-back"]) pairs.push(["--ink", back], ["--soft", back]);
  const ratios = pairs.map(([text, back]) => {
    const [a, b] = [light(resolve(text)), light(resolve(back))].sort((x, y) => y - x);
    return { text, back, ratio: (a + 0.05) / (b + 0.05) };
  });
  probe.remove();
  return ratios;
})()
