// Posts the form, and tells what becomes of it. What the server says goes into the document as text only.
"use strict";

const form = document.getElementById("form");
const button = form.querySelector("button");
const said = document.getElementById("said");
const state = document.getElementById("state");

function tell(text, kind, rows) {
  document.getElementById("progress").hidden = false;
  state.textContent = text;
  state.className = kind;
  said.replaceChildren(...rows.map(([name, value]) => {
    const row = document.createElement("tr");
    for (const text of [name, value]) {
      const cell = document.createElement("td");
      cell.textContent = text;
      row.append(cell);
    }
    return row;
  }));
}

async function answer(response) {
  const text = await response.text();
  try {
    const json = JSON.parse(text);
    if (response.ok) return json;
    throw new Error(json.status?.error ?? json.error ?? json.message ?? text);
  } catch (error) {
    if (error instanceof SyntaxError) throw new Error(text || response.statusText);
    throw error;
  }
}

async function follow(key) {
  const url = `api?upload_status=true&upload_id_key=${encodeURIComponent(key)}`;
  for (;;) {
    try {
      const { data: { upload } } = await answer(await fetch(url));
      const rows = Object.entries(upload).filter(([name, value]) => name !== "status" && value !== null);
      // What became of the files and columns first, what was asked for below.
      const asked = ([name, value]) => !(name === "error" || /^(completed|processed|failed) - /.test(value));
      rows.sort((one, other) => asked(one) - asked(other));
      tell(`${key}: ${upload.status}`, upload.status, rows);
      if (upload.status !== "pending") return;
    } catch (error) {
      // It is taken all the same, and outlives the server's restart.
      tell(`${key}: taken, its state is asked for again (${error.message})`, "", []);
    }
    await new Promise((resume) => setTimeout(resume, 1000));
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  try {
    const body = new FormData(form);
    body.set("json_response", "true");
    tell("Uploading …", "", []);
    const { data } = await answer(await fetch("upload_data", { method: "POST", body }));
    await follow(data.upload_id_key);
  } catch (error) {
    tell(`It was not taken: ${error.message}`, "failed", []);
  } finally {
    button.disabled = false;
  }
});
