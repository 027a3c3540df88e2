// The heat map's fixed colours, as the server draws them.
export async function paintScale() {
  const answer = await fetch("/api/v1/scale");
  const { stops, top } = await answer.json();
  const places = stops.map(([value, colour]) => `${colour} ${(100 * value) / top}%`);
  document.getElementById("scale").style.background = `linear-gradient(90deg, ${places.join(",")})`;
  document.getElementById("scale-top").textContent = `${top}× and above`;
}
