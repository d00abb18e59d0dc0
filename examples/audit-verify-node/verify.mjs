#!/usr/bin/env node
// Verifies an export of galley's audit log with nothing but the log's public key: no galley, no network, no package. It is meant to be
// read as much as to be run; docs/audit.md says why each check is there.
//
//   node verify.mjs export.jsonl 'galley-…+0a1b2c3d+Af…'
//
// It ends with 0 when everything holds, else with 1 and the reason.
import { createHash, createPublicKey, verify } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { argv, exit } from 'node:process'

const width = 256 // hashes of a complete tile
const size = 32 // bytes of a hash

const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest()
const leafHash = (leaf) => sha256(Buffer.of(0), leaf)
const nodeHash = (left, right) => sha256(Buffer.of(1), left, right)

function must(holds, complaint) {
  if (!holds) throw new Error(complaint)
}

/** Opens a tree head: a signed note of four lines, see https://c2sp.org/signed-note. */
function openHead(note, key) {
  const [name, keyHash] = key.split('+', 2)
  const encoded = Buffer.from(key.slice(name.length + keyHash.length + 2), 'base64')
  must(encoded[0] === 1 && encoded.length === 1 + 32, 'the key is not an Ed25519 verifier key')
  const expected = sha256(name, '\n', encoded).subarray(0, 4)
  must(expected.toString('hex') === keyHash, 'the key is damaged')
  // The 12 bytes are what stands before any Ed25519 key in its usual encoding (RFC 8410).
  const der = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), encoded.subarray(1)])
  const publicKey = createPublicKey({ key: der, format: 'der', type: 'spki' })

  const end = note.indexOf('\n\n') + 1
  must(end > 0, 'the tree head is not a signed note')
  const text = note.slice(0, end)
  const signed = note
    .slice(end + 1)
    .split('\n')
    .filter((line) => line.startsWith(`— ${name} `))
    .map((line) => Buffer.from(line.slice(`— ${name} `.length), 'base64'))
    .some((signature) => signature.subarray(0, 4).equals(expected) && verify(null, Buffer.from(text), publicKey, signature.subarray(4)))
  must(signed, 'the tree head is not signed by this key')
  const [origin, leaves, root, time] = text.split('\n')
  must(origin === name, `the tree head is that of another log, ${origin}`)
  return { leaves: Number(leaves), root: Buffer.from(root, 'base64'), time: time.replace(/^time /, '') }
}

/** The root of a perfect tree over the hashes. */
function perfect(hashes) {
  while (hashes.length > 1) {
    hashes = hashes.filter((_, i) => i % 2 === 0).map((left, i) => nodeHash(left, hashes[2 * i + 1]))
  }
  return hashes[0]
}

/** Tiles by their place, none of which is believed before it was followed up to the root of a signed head. */
class Tiles {
  #tiles = new Map()
  #believed = new Set()

  add(level, index, bytes) {
    must(bytes.length > 0 && bytes.length % size === 0 && bytes.length <= width * size, `tile ${level}/${index} is damaged`)
    const hashes = []
    for (let at = 0; at < bytes.length; at += size) hashes.push(bytes.subarray(at, at + size))
    this.#tiles.set(`${level}/${index}`, hashes)
  }

  #hashes(level, index, leaves) {
    const hashes = this.#tiles.get(`${level}/${index}`)
    must(hashes, `tile ${level}/${index} is missing`)
    const complete = Math.floor(leaves / width ** level) // hashes that this level has
    const wide = Math.min(width, complete - index * width)
    must(wide > 0 && hashes.length >= wide, `tile ${level}/${index} has too few hashes`)
    return hashes.slice(0, wide)
  }

  /** The root of the first leaves: folded from those tiles of each level that are not complete there, the lowest level last. */
  root(leaves) {
    let root
    for (let level = 0, rest = leaves; rest > 0; level++, rest = Math.floor(rest / width)) {
      const wide = rest % width
      if (wide === 0) continue
      let hashes = this.#hashes(level, Math.floor(rest / width), leaves)
      for (let part = 1; hashes.length > 0; part *= 2) {
        if ((wide & part) === 0) continue
        const subtree = perfect(hashes.slice(-part))
        hashes = hashes.slice(0, -part)
        root = root ? nodeHash(subtree, root) : subtree
      }
    }
    return root ?? sha256('')
  }

  /** Compares the tree with a signed head. The tiles at its edge are believed from here on, and what is below them can be followed up. */
  begin(head) {
    must(this.root(head.leaves).equals(head.root), 'the tree is not the one that was signed')
    for (let level = 0, rest = head.leaves; rest > 0; level++, rest = Math.floor(rest / width)) {
      if (rest % width !== 0) this.#believed.add(`${level}/${Math.floor(rest / width)}`)
    }
  }

  /** The hash of a leaf, from a tile that is part of the tree whose root was compared. */
  leaf(index, leaves) {
    const tile = Math.floor(index / width)
    this.#believe(0, tile, leaves)
    return this.#hashes(0, tile, leaves)[index % width]
  }

  #believe(level, index, leaves) {
    if (this.#believed.has(`${level}/${index}`)) return
    const hashes = this.#hashes(level, index, leaves)
    must(hashes.length === width, `tile ${level}/${index} is not complete, and not at the end of the tree`)
    const parent = Math.floor(index / width)
    this.#believe(level + 1, parent, leaves)
    must(this.#hashes(level + 1, parent, leaves)[index % width].equals(perfect(hashes)), `tile ${level}/${index} is not part of the tree`)
    this.#believed.add(`${level}/${index}`)
  }
}

/** Follows each customer's chain: every leaf counts on, and names the one before it. */
class Chains {
  #last = new Map()

  check(leaf, hash) {
    const last = this.#last.get(leaf.customer_id)
    let sequence
    if (leaf.v !== 1) {
      sequence = (last?.sequence ?? 0) + 1
      must(leaf.customer_sequence === sequence, `leaf ${sequence} of ${leaf.customer_id} is missing: the next one is ${leaf.customer_sequence}`)
      must((leaf.previous ?? '') === (last?.hash.toString('hex') ?? ''), `leaf ${sequence} of ${leaf.customer_id} does not follow the one before`)
    }
    this.#last.set(leaf.customer_id, { sequence, hash })
  }
}

async function main(file, key) {
  const tiles = new Tiles()
  const chains = new Chains()
  const leaves = []
  const heads = []
  let log
  for await (const text of createInterface({ input: createReadStream(file), crlfDelay: Infinity })) {
    const line = JSON.parse(text)
    switch (line.kind) {
      case 'log':
        must(line.format === 1, `format ${line.format} is not known`)
        log = line
        break
      case 'leaf': {
        const bytes = Buffer.from(line.leaf)
        const leaf = JSON.parse(line.leaf)
        const hash = leafHash(bytes)
        must(leaves.length === 0 || leaves.at(-1).index < line.index, `leaf ${line.index} is out of order`)
        must(log.customer_id === '*' || leaf.customer_id === log.customer_id, `leaf ${line.index} is another customer's`)
        chains.check(leaf, hash)
        if (line.salt && line.data) {
          const digest = sha256(Buffer.from(line.salt, 'base64'), Buffer.from(line.data, 'base64')).toString('hex')
          must(leaf.v === 1 || digest === leaf.data_digest, `the data of leaf ${line.index} is not what was logged`)
        }
        leaves.push({ index: line.index, hash })
        break
      }
      case 'tile':
        tiles.add(line.level ?? 0, line.index, Buffer.from(line.hashes, 'base64'))
        break
      case 'head':
        heads.push(openHead(line.note, key))
        break
      default:
        throw new Error(`a line of kind ${line.kind} is not known`)
    }
  }
  must(log && heads.length > 0, 'the export is not whole: it has no tree head')
  const newest = heads.at(-1)
  tiles.begin(newest)
  for (const { index, hash } of leaves) {
    must(index < newest.leaves && tiles.leaf(index, newest.leaves).equals(hash), `leaf ${index} is not what was signed`)
  }
  if (log.customer_id === '*') {
    must(leaves.length === newest.leaves, `the log has ${newest.leaves} leaves, the export ${leaves.length}`)
    for (const head of heads) { // each is the beginning of the newest
      must(head.leaves <= newest.leaves && tiles.root(head.leaves).equals(head.root), `the log is not the one that was signed at ${head.time}`)
    }
  }
  console.log(`${leaves.length} leaves of ${log.customer_id}, all in the log of ${newest.leaves} leaves that was signed at ${newest.time}`)
}

const [file, key] = argv.slice(2)
if (!file || !key) {
  console.error('usage: node verify.mjs <export.jsonl> <public key>')
  exit(2)
}
main(file, key).catch((error) => {
  console.error(error.message)
  exit(1)
})
