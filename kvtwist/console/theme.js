// Applies the chosen theme before the first paint. Without a choice, the page follows the system.
const chosenTheme = localStorage.getItem("kvtwist.theme");
if (chosenTheme) document.documentElement.dataset.theme = chosenTheme;
