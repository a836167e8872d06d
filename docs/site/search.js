/* What is asked of the search: what is called so first, then sections with all the words, without
 * filler words, and by the beginnings of words.
 *
 * The theme searches for words that begin as the asked ones do, any of them: "a" finds half of the
 * site, and "calibrating" no calibration. It has no hook for that, but its search runs in a worker.
 * This stands between the two: one question (a message of type 2) becomes two, the second for what
 * has any of the words, and the answers (type 3) become one. */
(() => {
  const QUESTION = 2, ANSWER = 3;
  const FILLER = new Set((
    "a an and another any are as at be but by can could do does find for from get gets give gives go happen happens has have how i if " +
    "in into is it its make makes me mean means must my need needs not of on or our out own set sets should show shows so than that " +
    "the their there they this to too up us want was we what when where which who whose why will with you your"
  ).split(" "));

  const beginning = word => {
    const cut = word.replace(/(?:ings?|ions?|ed|ies|(?<=[sx])es|(?<=[^s])s|e)$/, "");
    return /^[a-z]+$/.test(word) && cut.length > 3 ? cut : word;
  };

  const words = text => {
    const all = text.toLowerCase().split(/[\s?!,;]+/).filter(Boolean);
    const kept = all.filter(word => !FILLER.has(word));
    return (kept.length ? kept : all).map(beginning);
  };

  const named = (group, names) =>  // has a section or a row called as what was asked for
    group.some(({ title }) => names.has(title.replace(/<[^>]+>/g, "").trim().toLowerCase()));

  const page = group => group[0].location.split("#")[0];

  const merged = (names, strict, loose) => {
    const found = new Set(strict.items.map(page));
    const first = [], then = [];
    for (const group of strict.items) (named(group, names) ? first : then).push(group);
    return { ...strict, items: [...first, ...then, ...loose.items.filter(group => !found.has(page(group)))] };
  };

  const Base = window.Worker;
  window.Worker = class extends Base {
    constructor(...args) {
      super(...args);
      this.asked = [];
      this.addEventListener("message", event => {
        if (event.data.type !== ANSWER || event.data.merged) return;
        const question = this.asked[0];
        if (!question) return;
        event.stopImmediatePropagation();
        if (!question.strict) {
          question.strict = event.data.data;
          return;
        }
        this.asked.shift();
        const data = { type: ANSWER, merged: true, data: merged(question.names, question.strict, event.data.data) };
        this.dispatchEvent(new MessageEvent("message", { data }));
      });
    }

    postMessage(message, ...rest) {
      if (!message || message.type !== QUESTION) return super.postMessage(message, ...rest);
      const plain = /["+:~^*]/.test(message.data);  // the reader writes the search's own language
      const asked = words(message.data);
      const text = message.data.trim().toLowerCase();
      this.asked.push({ names: new Set([text, ...text.split(/\s+/).filter(word => /\w[._]\w/.test(word))]) });
      const strict = plain ? message.data : asked.map(word => `+${word}*`).join(" ");
      const loose = plain ? message.data : asked.join(" ");
      super.postMessage({ ...message, data: strict }, ...rest);
      super.postMessage({ ...message, data: loose }, ...rest);
    }
  };
})();
