// Package verify verifies the audit log: the whole of it out of Postgres, or offline what was exported, with nothing but the public
// key.
//
// What is wrong is found by comparing what is kept several times over: the leaves give the tree; the tiles and the end of the log repeat
// it; signed tree heads vouch for it; each customer's leaves are a chain. Whoever can write to the database can make all of these agree
// but the signatures, and whoever has the signing key these, too. Then only a signed tree head that is kept elsewhere tells: give it in
// Options.Published.
//
// A large database need not be read whole each time: Options.Skip leaves rows out that were read before.
package verify
