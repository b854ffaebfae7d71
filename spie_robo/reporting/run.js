"use strict";
// Shows the picture of the epoch that the slider says; without script all of them stand below each other.
(() => {
  const slider = document.getElementById("epoch");
  if (!slider) return;
  const pictures = [...document.querySelectorAll(".epoch")];
  const show = () => {
    pictures.forEach((picture, index) => { picture.hidden = index !== Number(slider.value); });
    document.getElementById("epoch-clock").textContent = `epoch ${pictures[slider.value].dataset.epoch}`;
    document.documentElement.dataset.epoch = pictures[slider.value].dataset.epoch;
  };
  slider.addEventListener("input", show);
  document.getElementById("epoch-field").hidden = false;
  show();
})();
