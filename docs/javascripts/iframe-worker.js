// Search runs in a worker, which browsers do not start for a page that was opened from a disk. There
// the worker's script runs in a hidden frame instead.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.documentElement.append(this.frame);
      const inside = this.frame.contentWindow;
      inside.postMessage = (data) => this.send(data, this);
      const script = inside.document.createElement("script");
      this.loaded = new Promise((resolve) => (script.onload = resolve));
      script.src = url;
      inside.document.documentElement.append(script);
    }

    postMessage(data) {
      this.loaded.then(() => this.send(data, this.frame.contentWindow));
    }

    send(data, to) {
      const copy = structuredClone(data);
      setTimeout(() => to?.onmessage?.({ data: copy }));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
