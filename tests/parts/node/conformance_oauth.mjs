// How the conformance client signs in: the consent page of the suite's authorization servers answers with a redirect at
// once, so that no browser is needed. Everything that a client must check is left to the SDK.
import {
  auth,
  computeScopeUnion,
  extractWWWAuthenticateParams,
  isStrictScopeSuperset,
  UnauthorizedError,
} from '@modelcontextprotocol/client';

const REDIRECT = 'http://localhost:3000/callback';

/// What a client keeps between the steps of a sign-in, in memory.
export class Account {
  #code;
  #discovery;
  #information;
  #issuer;
  #tokens;
  #verifier;

  constructor({ name, metadataUrl, information }) {
    this.clientMetadata = { client_name: name, redirect_uris: [REDIRECT] };
    this.clientMetadataUrl = metadataUrl;
    this.redirectUrl = REDIRECT;
    if (information) this.#information = { ...information, redirect_uris: [REDIRECT] };
  }

  clientInformation() { return this.#information; }
  saveClientInformation(information) { this.#information = information; }
  tokens() { return this.#tokens; }
  saveTokens(tokens) { this.#tokens = tokens; }
  codeVerifier() { return this.#verifier; }
  saveCodeVerifier(verifier) { this.#verifier = verifier; }
  discoveryState() { return this.#discovery; }
  saveDiscoveryState(state) { this.#discovery = state; }

  invalidateCredentials(what) {
    const all = what === 'all';
    if (all || what === 'client') this.#information = undefined;
    if (all || what === 'tokens') this.#tokens = undefined;
    if (all || what === 'verifier') this.#verifier = undefined;
    if (all || what === 'discovery') this.#discovery = undefined;
  }

  /// The user's consent: the code, and who says that it issued it, are in the redirect.
  async redirectToAuthorization(page) {
    const { headers } = await fetch(page, { redirect: 'manual' });
    const back = headers.get('location');
    if (!back) throw new Error(`no redirect from ${page}`);
    const { searchParams } = new URL(back);
    this.#code = searchParams.get('code');
    this.#issuer = searchParams.get('iss') ?? undefined;
    if (!this.#code) throw new Error('no code in the redirect');
  }

  granted() { return { authorizationCode: this.#code, iss: this.#issuer }; }
}

/// A fetch that signs in when it is told to, and tries once more.
export function signedIn(account, serverUrl) {
  return async (url, init) => {
    const send = async () => {
      const headers = new Headers(init?.headers);
      const tokens = account.tokens();
      if (tokens) headers.set('Authorization', `Bearer ${tokens.access_token}`);
      return fetch(url, { ...init, headers });
    };
    const refused = (response) => response.status === 401 || response.status === 403;
    let response = await send();
    if (refused(response)) {
      await signIn(account, serverUrl, response);
      response = await send();
    }
    if (refused(response)) throw new UnauthorizedError(`still refused at ${url}`);
    return response;
  };
}

async function signIn(account, serverUrl, response) {
  const { resourceMetadataUrl, scope: asked } = extractWWWAuthenticateParams(response);
  const before = account.tokens()?.scope;
  // A step up keeps what was granted before; a token that is no longer taken may mean another authorization server.
  const scope = response.status === 403 ? computeScopeUnion(before, asked) : asked;
  if (response.status === 401) account.invalidateCredentials('discovery');
  const options = { serverUrl, resourceMetadataUrl, scope };
  const forceReauthorization = isStrictScopeSuperset(scope, before);
  let result = await auth(account, { ...options, forceReauthorization });
  if (result === 'REDIRECT') result = await auth(account, { ...options, ...account.granted() });
  if (result !== 'AUTHORIZED') throw new UnauthorizedError(`sign-in ended as ${result}`);
}
