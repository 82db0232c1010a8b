// A formula that is wider than the text is set smaller, so that all of it is seen.
(() => {
  const fit = () => document.querySelectorAll('article mjx-container[display="true"]').forEach((formula) => {
    formula.style.fontSize = "";
    const given = parseFloat(getComputedStyle(formula).fontSize);
    const share = formula.clientWidth / formula.scrollWidth;
    if (share < 1) formula.style.fontSize = `${Math.floor(100 * given * share * 0.99) / 100}px`;
  });
  addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(fit));
  addEventListener("resize", fit);
})();
