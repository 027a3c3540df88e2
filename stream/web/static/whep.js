// One camera's video by WHEP. Resolves to a function that ends it; throws with the reason when it does not come about.
import { refusal, within } from "./api.js";

const WITHIN_MS = 4000;

export async function watchVideo(name, overlay, video, onLost) {
  if (!("RTCPeerConnection" in window)) throw new Error("this browser has no WebRTC");
  const peer = new RTCPeerConnection({ iceServers: [] });
  let place = null;
  const end = () => {
    // The server hears of it first: a peer that is gone already would be a session that isn't there.
    const told = place ? fetch(place, { method: "DELETE", keepalive: true, signal: within(WITHIN_MS) }) : Promise.resolve();
    told.catch(() => {}).finally(() => peer.close());
    place = null;
  };
  try {
    const transceiver = peer.addTransceiver("video", { direction: "recvonly" });
    const playing = firstPicture(peer, video, transceiver);
    playing.catch(() => {}); // it is waited for below, unless something else fails before
    await peer.setLocalDescription(await peer.createOffer());
    await gathered(peer);
    const answer = await fetch(`/whep/${encodeURIComponent(name)}?overlay=${overlay}`, {
      method: "POST", headers: { "content-type": "application/sdp" }, body: peer.localDescription.sdp,
      signal: within(WITHIN_MS),
    }).catch(() => { throw new Error("the server does not answer"); });
    if (answer.status !== 201) throw await refusal(answer);
    place = answer.headers.get("location");
    await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    await playing;
  } catch (error) {
    end();
    throw error;
  }
  peer.addEventListener("connectionstatechange", () => {
    if (["failed", "disconnected"].includes(peer.connectionState)) { end(); onLost(); }
  });
  return end;
}

function firstPicture(peer, video, transceiver) {
  // Newest first: a line is watched, not enjoyed, so nothing is held back to be smooth.
  if ("jitterBufferTarget" in transceiver.receiver) transceiver.receiver.jitterBufferTarget = 0;
  return new Promise((done, failed) => {
    const timer = setTimeout(() => failed(new Error("no video came within 4 seconds")), WITHIN_MS);
    peer.ontrack = (event) => {
      video.srcObject = new MediaStream([event.track]);
      video.play().catch(() => {});
    };
    // Not every browser calls back for a video that is still hidden, nor has that call.
    const shown = () => { clearTimeout(timer); done(); };
    video.addEventListener("loadeddata", shown, { once: true });
    video.requestVideoFrameCallback?.(shown);
    peer.onconnectionstatechange = () => {
      if (peer.connectionState === "failed") { clearTimeout(timer); failed(new Error("the network lets no video pass")); }
    };
  });
}

function gathered(peer) {
  if (peer.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((done) => {
    const timer = setTimeout(done, 500);
    peer.addEventListener("icegatheringstatechange", () => {
      if (peer.iceGatheringState === "complete") { clearTimeout(timer); done(); }
    });
  });
}
