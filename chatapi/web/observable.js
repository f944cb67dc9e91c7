// What components show is an object that says when it has changed.
import { useLayoutEffect, useState } from "./vendor/htm-preact.js";

/** An object that components show. Whoever changes it calls `changed`; whoever watches it is told. */
export class Observable {
  /** @type {Set<() => void>} */
  #watchers = new Set();
  /** How often it has changed. */
  version = 0;

  /**
   * @param {() => void} watcher called after each change
   * @returns {() => void} ends the watching
   */
  watch(watcher) {
    this.#watchers.add(watcher);
    return () => {
      this.#watchers.delete(watcher);
    };
  }

  changed() {
    this.version += 1;
    for (const watcher of [...this.#watchers]) watcher();
  }
}

/**
 * Render the calling component again whenever one of these changes.
 * @param {...(Observable | null | undefined)} observables always as many
 */
export function useWatch(...observables) {
  const [, render] = useState(0);
  const seen = observables.map((observable) => observable?.version);
  useLayoutEffect(() => {
    const again = () => render((count) => count + 1);
    const ends = observables.map((observable) => observable?.watch(again));
    // A change between the rendering and now had nobody to tell.
    if (observables.some((observable, index) => observable?.version !== seen[index])) again();
    return () => {
      for (const end of ends) end?.();
    };
  }, observables);
}

/**
 * The same for what changes many times a second: at most once for each frame that the browser draws.
 * @param {Observable | null | undefined} observable
 */
export function useWatchByFrame(observable) {
  const [, render] = useState(0);
  const seen = observable?.version;
  useLayoutEffect(() => {
    let frame = 0;
    const draw = () => {
      frame = 0;
      render((count) => count + 1);
    };
    const later = () => {
      // A hidden page draws no frames: what it shows must not wait for one.
      if (document.hidden) draw();
      else if (!frame) frame = requestAnimationFrame(draw);
    };
    const end = observable?.watch(later);
    if (observable?.version !== seen) later();
    return () => {
      end?.();
      cancelAnimationFrame(frame);
    };
  }, [observable]);
}
