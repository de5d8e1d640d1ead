// What Gradio has no setting for: keyboard shortcuts, names of examples, the way to the result on a phone, and the step slider over drawings that the page holds already.
() => {
  const click = (selector) => {
    const button = document.querySelector(selector);
    if (button && !button.disabled) button.click();
    return Boolean(button);
  };
  const types = (element) => element.matches?.("textarea, select, input:not([type=range]):not([type=radio])");

  // Gradio gives the buttons of examples a picture and no name.
  const nameExamples = () =>
    document.querySelectorAll("#examples .gallery-item:not([aria-label])").forEach((button, index) => {
      button.setAttribute("aria-label", `Example ${index + 1}`);
    });
  new MutationObserver(nameExamples).observe(document.body, { childList: true, subtree: true });
  nameExamples();

  // On a phone the result lies below what asked for it, or above.
  window.bringResultIntoView = () => {
    const result = document.querySelector("#result");
    const { top, bottom } = result.getBoundingClientRect();
    const middle = (top + bottom) / 2;
    const seen = 0 < middle && middle < window.innerHeight;
    if (window.innerWidth < 768 && !seen) result.scrollIntoView({ behavior: "smooth" });
  };

  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey)) return;
    const key = event.key.toLowerCase();
    if (key === "enter" && click("#run")) event.preventDefault();
    if (types(event.target)) return;
    const redo = key === "y" || (key === "z" && event.shiftKey);
    if (!redo && key !== "z") return;
    const editor = document.activeElement?.closest?.("#prompt-editor") ? "#prompt-editor" : "#editor";
    if (click(`${editor} [aria-label="${redo ? "Redo" : "Undo"}"]`)) event.preventDefault();
  });

  const show = (player) => {
    const range = player.querySelector("input");
    const view = player.querySelector("select").value;
    const scale = player.parentElement.querySelectorAll(".scale")[range.value];
    const drawing = scale.querySelector(`figure[data-view="${view}"] img`);
    const name = `Scale ${scale.dataset.scale}`;
    player.querySelector("output").textContent = name;
    range.setAttribute("aria-valuetext", name);
    player.querySelector(".frame img").src = drawing.src;
    player.querySelector(".frame img").alt = drawing.alt;
  };
  const play = (player) => {
    const range = player.querySelector("input");
    range.value = 0;
    show(player);
    const timer = setInterval(() => {
      range.value = Number(range.value) + 1;
      show(player);
      if (range.value === range.max || !player.isConnected) clearInterval(timer);
    }, 700);
  };
  document.addEventListener("input", (event) => {
    const player = event.target.closest?.(".player");
    if (player) show(player);
  });
  document.addEventListener("click", (event) => {
    if (event.target.matches?.(".player .play")) play(event.target.closest(".player"));
  });
}
