/**
 * Where downloaded models lie: the layout of huggingface_hub, so that Python's downloads are found here and ours there.
 *
 *   CACHE/models--ORG--NAME/refs/REVISION          the commit that a branch or tag meant last
 *   CACHE/models--ORG--NAME/blobs/ETAG             contents
 *   CACHE/models--ORG--NAME/snapshots/COMMIT/PATH  links to them
 */
import { existsSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { makeFolder, writeWhole } from '../util/new_file.ts';

/** The cache that the environment names: HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, as Python reads them. */
export function cacheFolder(): string {
  const { HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME } = process.env;
  const named = HF_HUB_CACHE || HUGGINGFACE_HUB_CACHE;
  if (named) return named;
  return join(HF_HOME || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface'), 'hub');
}

/** The token that the environment or Python's login names; undefined if there is none. */
export function accessToken(): string | undefined {
  const { HF_TOKEN, HF_TOKEN_PATH, HF_HOME, XDG_CACHE_HOME } = process.env;
  if (HF_TOKEN) return HF_TOKEN.trim();
  const home = HF_HOME || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface');
  const path = HF_TOKEN_PATH || join(home, 'token');
  return existsSync(path) ? readFileSync(path, 'utf8').trim() || undefined : undefined;
}

const isCommit = (revision: string) => /^[0-9a-f]{40}$/.test(revision);

/** One model's part of a cache. */
export class CachedModel {
  private readonly folder: string;
  private readonly cache: string;
  private readonly key: string;

  constructor(cache: string, name: string) {
    this.cache = cache;
    this.key = `models--${name.replaceAll('/', '--')}`;
    this.folder = join(cache, this.key);
  }

  /** The commit that a revision meant when it was last asked for; undefined if it never was. */
  commitOf(revision: string): string | undefined {
    if (isCommit(revision)) return revision;
    const path = join(this.folder, 'refs', revision);
    return existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined;
  }

  remember(revision: string, commit: string): void {
    if (isCommit(revision)) return;
    const path = join(this.folder, 'refs', revision);
    makeFolder(dirname(path));
    writeWhole(path, commit);
  }

  snapshot(commit: string): string {
    return join(this.folder, 'snapshots', commit);
  }

  blob(etag: string): string {
    return join(this.folder, 'blobs', etag);
  }

  /** Where the lock of a download lies. */
  lockFolder(): string {
    return join(this.cache, '.locks', this.key);
  }

  /** Puts a blob under its name into a snapshot. */
  link(commit: string, path: string, etag: string): void {
    const place = join(this.snapshot(commit), path);
    makeFolder(dirname(place));
    rmSync(place, { force: true });
    symlinkSync(relative(dirname(place), this.blob(etag)), place);
  }
}
