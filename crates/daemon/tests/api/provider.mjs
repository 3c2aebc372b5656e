// An OpenID Connect provider with two people and a program, for the tests of sign-in: provider.mjs FOLDER PORT REDIRECT SECRET.
// Beside what every provider does, /forge signs whatever claims it is given with the provider's own keys, so that a test has
// tokens that only their content is wrong with, and /asked counts how often the keys were asked for.
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [, , folder, port, redirect, secret] = process.argv;
const { resolve } = createRequire(`${folder}/`);
const { Provider, errors } = await import(pathToFileURL(resolve('oidc-provider')));
const { SignJWT } = await import(pathToFileURL(resolve('jose')));

const issuer = `http://127.0.0.1:${port}`;
const groups = { ann: ['backup-operators', 'cooks'], bob: ['cooks'], program: ['auditors'] };
const keys = {
  RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: generateKeyPairSync('ed25519'),
};
const jwk = (alg) => ({ ...keys[alg].privateKey.export({ format: 'jwk' }), kid: alg, use: 'sig', alg });

const provider = new Provider(issuer, {
  clients: [
    { client_id: 'lifeboat', client_secret: secret, redirect_uris: [redirect] },
    { client_id: 'program', client_secret: secret, redirect_uris: [], response_types: [], grant_types: ['client_credentials'] },
  ],
  jwks: { keys: ['RS256', 'ES256', 'EdDSA'].map(jwk) },
  claims: { openid: ['sub'], profile: ['preferred_username'], groups: ['groups'] },
  findAccount: (_, id) =>
    groups[id] && { accountId: id, claims: () => ({ sub: id, preferred_username: `${id}@example.com`, groups: groups[id] }) },
  extraTokenClaims: (_, token) => ({ groups: groups[token.clientId] }),
  features: {
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => {
        if (!resource.startsWith('https://')) throw new errors.InvalidTarget();
        return { scope: 'api', audience: resource, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } };
      },
    },
  },
});

let asked = 0;
const answer = provider.callback();
createServer(async (request, response) => {
  const url = new URL(request.url, issuer);
  if (url.pathname === '/jwks') asked += 1;
  if (url.pathname === '/asked') return response.end(String(asked));
  if (url.pathname !== '/forge') return answer(request, response);
  const { header, claims } = JSON.parse(url.searchParams.get('token'));
  const pem = Buffer.from(keys.RS256.publicKey.export({ type: 'spki', format: 'pem' }));
  const key = header.alg === 'HS256' ? pem : keys[url.searchParams.get('key') ?? header.alg].privateKey;
  return response.end(await new SignJWT(claims).setProtectedHeader(header).sign(key));
}).listen(Number(port), '127.0.0.1', () => console.log('listens'));
