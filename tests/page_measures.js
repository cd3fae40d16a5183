// Measures a page in frames of several widths: what sticks out, contrast of every text, what the keyboard reaches.
function luminance([r, g, b]) {
  const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
}
function channels(colour) {
  const n = colour.match(/[\d.]+/g).map(Number);
  return n.length < 4 ? [...n, 1] : n;
}
function background(view, element) {
  for (let e = element; e; e = e.parentElement) {
    const c = channels(view.getComputedStyle(e).backgroundColor);
    if (c[3] === 1) return c;
    if (c[3] !== 0) return null; // half transparent: not measured here, so refused
  }
  return [255, 255, 255, 1];
}
function contrast(view, element) {
  const back = background(view, element), front = channels(view.getComputedStyle(element).color);
  if (!back || front[3] !== 1) return 0;
  const [a, b] = [luminance(front), luminance(back)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}
function outline(e) { return `${e.tagName.toLowerCase()}.${e.className.baseVal ?? e.className}: ${e.textContent.slice(0, 60)}`; }
function texts(view, doc) {
  const walker = doc.createTreeWalker(doc.body, NodeFilter.SHOW_TEXT), found = new Set();
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || e.closest("style, svg")) continue;
    if (view.getComputedStyle(e).visibility === "hidden" || !e.getClientRects().length) continue;
    found.add(e);
  }
  return [...found];
}
function measure(frame) {
  const view = frame.contentWindow, doc = frame.contentDocument, root = doc.documentElement;
  const closed = [root.scrollWidth, root.clientWidth];
  const focusable = [...doc.querySelectorAll("a[href], summary")];
  const unreached = focusable.filter((e) => { e.focus(); return doc.activeElement !== e || e.tabIndex !== 0; });
  doc.querySelectorAll("details").forEach((d) => { d.open = true; });
  const shown = texts(view, doc);
  const worst = shown.map((e) => [contrast(view, e), outline(e)]).sort((a, b) => a[0] - b[0]);
  const outside = shown.filter((e) => [...e.getClientRects()].some((r) => r.right > root.clientWidth + 0.5 || r.left < -0.5));
  const clipped = [...doc.body.querySelectorAll("*")].filter((e) =>
    e.clientWidth && e.scrollWidth > e.clientWidth + 1 && view.getComputedStyle(e).overflowX !== "visible");
  return {
    closed, open: [root.scrollWidth, root.clientWidth], texts: shown.length, worst: worst.slice(0, 3),
    outside: outside.slice(0, 3).map(outline), clipped: clipped.slice(0, 3).map(outline),
    focusable: focusable.length, unreached: unreached.slice(0, 3).map(outline),
    dark: view.matchMedia("(prefers-color-scheme: dark)").matches,
    active: doc.querySelectorAll("script, img, iframe, object, embed, link, form").length,
    requests: view.performance.getEntriesByType("resource").map((r) => r.name),
    said: view.told || null, text: doc.body.innerText.length,
  };
}
async function all(pages, widths) {
  const out = {};
  for (const page of pages) for (const width of widths) {
    const frame = document.createElement("iframe");
    frame.style.cssText = `width:${width}px;height:900px;border:0`;
    const loaded = new Promise((resolve) => { frame.onload = resolve; });
    frame.src = page;
    document.body.append(frame);
    await loaded;
    out[`${page} ${width}`] = measure(frame);
    frame.remove();
  }
  const pre = document.createElement("pre");
  pre.id = "measured";
  pre.textContent = JSON.stringify(out);
  document.body.append(pre);
}
