"use strict";
// A link to a stage opens its card; a cell of a matrix shows the densities of its pair, in its place.
const opened = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const card = target && target.closest("details");
  if (card) { card.open = true; target.scrollIntoView(); }
};
addEventListener("hashchange", opened);
opened();
for (const link of document.querySelectorAll(".matrix a")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const pair = document.querySelector(link.getAttribute("href"));
    for (const other of pair.parentElement.children) other.classList.toggle("shown", other === pair);
    for (const other of link.closest(".matrices").querySelectorAll("a")) {
      other.classList.toggle("chosen", other.getAttribute("href") === link.getAttribute("href"));
    }
  });
}
// Paper shows everything that could be opened, but for the texts of the pipeline and the cards.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("#training details:not([open])")];
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => { for (const details of closed) details.open = false; });
