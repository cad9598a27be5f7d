// Small values that stay in this browser; a browser that forbids it merely forgets them.

export function keep(name, value, storage = () => localStorage) {
  try {
    if (value === null) storage().removeItem(`nerite.${name}`);
    else storage().setItem(`nerite.${name}`, JSON.stringify(value));
  } catch {
    // storage is forbidden or full
  }
}

export function kept(name, storage = () => localStorage) {
  try {
    return JSON.parse(storage().getItem(`nerite.${name}`));
  } catch {
    return null;
  }
}
