// Asks for a token when the server wants one. The token lives as long as the tab.

import { ask } from "./dialogs.js";
import { h } from "./dom.js";

/** Returns the token; :param wasRefused: whether the one before was not accepted. */
export async function askForToken(wasRefused) {
  const token = h("input", { id: "token", type: "password", autocomplete: "current-password", required: true, autofocus: true });
  const content = [
    h("p", null, wasRefused ? "The server does not accept this token." : "This server wants a token."),
    h("label", { for: "token" }, "Token"),
    token,
    h("p", { class: "note" }, "It is kept in this tab until the tab is closed."),
  ];
  const answer = await ask({ title: "Sign in", content, buttons: [["Cancel"], ["Sign in", "in", "primary"]] });
  if (answer === null || !token.value) throw new Error("not signed in");
  return token.value.trim();
}
