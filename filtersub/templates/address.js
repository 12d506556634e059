// What a reader chose stands in the address (#settings=...&runs.sort=...), so that a link shows the same view. What comes from
// there is only compared with what the page offers, or put into the field of words; it is never read as HTML.
const address = {
  all: (name) => new URLSearchParams(location.hash.slice(1)).getAll(name),
  put: (values) => {
    const kept = new URLSearchParams(location.hash.slice(1));
    for (const [name, wanted] of Object.entries(values)) {
      kept.delete(name);
      for (const value of wanted) kept.append(name, value);
    }
    const text = kept.toString().replaceAll("+", "%20");
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  },
};
