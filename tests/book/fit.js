// What of an article is wider than its column; runs inside the page.
//
// Everything folded is opened first. At a desk's width nothing may be wider, a box that
// scrolls included. On a phone, `scrolls` true, what is wider must scroll in a box of its
// own that itself fits.

module.exports = function unfit(scrolls) {
  const article = document.querySelector("article.bd-article");
  if (!article) return [];
  article.querySelectorAll("details").forEach((one) => (one.open = true));
  const slack = 1.5; // pixels, for rounding
  const edges = (one) => {
    const style = getComputedStyle(one);
    const box = one.getBoundingClientRect();
    const inner = [parseFloat(style.paddingLeft), parseFloat(style.paddingRight)];
    return [box.left + inner[0], box.right - inner[1]];
  };
  const [left, right] = edges(article);
  const found = [];
  const told = (one, by) => {
    const heads = [...article.querySelectorAll("h1, h2, h3")].filter(
      (head) => head.compareDocumentPosition(one) & Node.DOCUMENT_POSITION_FOLLOWING
    );
    const section = heads.length ? heads[heads.length - 1].textContent : "";
    const words = (one.alt || one.textContent || "").replace(/\s+/g, " ").trim();
    const kind = one.tagName.toLowerCase();
    found.push(`${Math.round(by)} px too wide: ${kind} in ${section}: ${words.slice(0, 70)}`);
  };
  const boxed = (one) => {
    for (let up = one.parentElement; up && up !== article; up = up.parentElement)
      if (/auto|scroll/.test(getComputedStyle(up).overflowX)) return up;
    return null;
  };
  const visit = (one) => {
    if (one.matches(".hidden, .visually-hidden, script, style")) return;
    if (!one.getClientRects().length) return;
    if (one.matches("span.math")) {
      // The parts of a formula reach beyond it, for screen readers and for brackets.
      const formula = one.querySelector("mjx-math");
      const by = formula ? formula.getBoundingClientRect().right - right : 0;
      return by > slack && !boxed(one) ? told(one, by) : undefined;
    }
    if (one.matches("div.math")) {
      const room = one.getBoundingClientRect();
      const box = one.querySelector("mjx-container");
      if (scrolls && box && !/auto|scroll/.test(getComputedStyle(box).overflowX))
        return told(one, box.scrollWidth - box.clientWidth);
      const parts = [...one.querySelectorAll("mjx-math, mjx-mtable, mjx-labels")];
      const wide = parts.map((part) => part.getBoundingClientRect().width);
      const by = Math.max(0, ...wide) - room.width;
      return by > slack && !scrolls ? told(one, by) : undefined;
    }
    const style = getComputedStyle(one);
    if (style.display === "contents") return [...one.children].forEach(visit);
    const box = one.getBoundingClientRect();
    const out = Math.max(box.right - right, left - box.left);
    if (out > slack) return told(one, out);
    const inside = one.scrollWidth - one.clientWidth;
    if (/auto|scroll|hidden|clip/.test(style.overflowX) && inside > slack && one.clientWidth) {
      const hides = /hidden|clip/.test(style.overflowX);
      if (!scrolls || hides) told(one, inside);
      return; // what it holds is its own affair
    }
    if (one.tagName.toLowerCase() !== "svg") [...one.children].forEach(visit);
  };
  [...article.children].forEach(visit);
  return found;
};
