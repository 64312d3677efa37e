// Pages that are opened from disk may not start workers, and the theme searches in one: there, a hidden frame is the worker.
class IFrameWorker extends EventTarget {
  constructor(url) {
    super();
    const frame = document.createElement("iframe");
    frame.hidden = true;
    document.documentElement.append(frame);
    const inner = frame.contentWindow;
    const load = (address) => new Promise((loaded, failed) => {
      const script = inner.document.createElement("script");
      script.src = new URL(address, location.href).href;
      script.onload = loaded;
      script.onerror = failed;
      inner.document.head.append(script);
    });
    inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
    inner.importScripts = (...addresses) => addresses.reduce((before, one) => before.then(() => load(one)), Promise.resolve());
    this.frame = frame;
    this.ready = load(url);
  }

  postMessage(data) {
    this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
  }

  terminate() {
    this.frame.remove();
  }
}

if (location.protocol === "file:") {
  window.IFrameWorker = IFrameWorker;
  window.Worker = IFrameWorker;
}
