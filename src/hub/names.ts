import { existsSync } from 'node:fs';

/** OWNER/NAME, and there is no folder OWNER in which NAME may have been mistyped. */
export function isHubName(place: string): boolean {
  const [owner, name, ...more] = place.split('/');
  return Boolean(owner && name && more.length === 0 && !existsSync(owner));
}
