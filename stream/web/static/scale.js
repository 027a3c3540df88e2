// The heat map's fixed colours, as the server draws them.
import { ask } from "./api.js";

export async function paintScale() {
  const { stops, top } = await ask("/api/v1/scale");
  const places = stops.map(([value, colour]) => `${colour} ${(100 * value) / top}%`);
  document.getElementById("scale").style.background = `linear-gradient(90deg, ${places.join(",")})`;
  document.getElementById("scale-top").textContent = `${top}× and above`;
}
