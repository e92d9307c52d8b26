// Questions to the room's own server; an answer that is no answer becomes an Error that says why.

export class Refused extends Error {
  constructor(status, text) {
    super(text || `the server says ${status}`);
    this.status = status;
  }
}

async function answered(response) {
  if (!response.ok) throw new Refused(response.status, (await response.text()).slice(0, 500));
  return response;
}

export const get = async (path) => answered(await fetch(path));

export const getJson = async (path) => (await get(path)).json();

export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return (await answered(await fetch(path, { method: "POST", headers, body: JSON.stringify(body) }))).json();
}
