// Who is looking. Where there are users, the page waits for a login; without users it goes on at once.
import { el, once, text } from "./dom.js";
import { ask } from "./api.js";

export async function whoAmI() {
  const me = await ask("/api/v1/me");
  document.body.dataset.role = me.role ?? "";
  return me;
}

export function showLogin(main, done) {
  const user = el("input", { name: "user", autocomplete: "username", required: "", autocapitalize: "none" });
  const password = el("input", { name: "password", type: "password", autocomplete: "current-password", required: "" });
  const note = el("p", { class: "reason", role: "alert" });
  const form = el("form", { class: "card login", "aria-label": "Log in" },
    el("h1", {}, "Log in"),
    el("label", {}, "User", user), el("label", {}, "Password", password),
    el("button", { type: "submit" }, "Log in"), note);
  const enter = once(async () => {
    try {
      await ask("/api/v1/login", {
        method: "POST", headers: { "content-type": "application/json" },
        body: JSON.stringify({ user: user.value, password: password.value }),
      });
      await done();
    } catch (error) {
      password.value = "";
      text(note, error.message);
    }
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); enter(); });
  main.replaceChildren(form);
  user.focus();
}

export async function logout() {
  await ask("/api/v1/logout", { method: "POST" });
  location.reload();
}
