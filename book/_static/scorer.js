// Pages to read come before the library's reference and the listings of its code.
var Scorer = {
  score: ([docname, title, anchor, descr, score]) =>
    /api$|^_modules|genindex|py-modindex/.test(docname) ? score - 40 : /claims$|results$/.test(docname) ? score - 2 : score,
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
