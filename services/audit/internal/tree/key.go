package tree

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Key is what a log's tree heads are signed with: Ed25519, in the form of https://c2sp.org/signed-note. Its name is that of the log.
type Key struct {
	Signer   note.Signer
	Verifier note.Verifier
	// Public is the verifier in its text form, <name>+<hash>+<key>: what everyone who verifies must have.
	Public string

	seed []byte
}

// derivedSize is the size of derived keys in bytes.
const derivedSize = 32

// Derive makes a key for another purpose. It is secret, the same for the same nonce, and says nothing about this one.
func (k Key) Derive(purpose string, nonce []byte) []byte {
	derived, err := hkdf.Key(sha256.New, k.seed, nonce, "galley audit "+purpose, derivedSize)
	if err != nil {
		panic("derive a key: " + err.Error()) // 32 bytes can always be derived
	}
	return derived
}

const (
	nameLength = 12
	keyParts   = 5
)

// NewKey makes the key of a new log, in its text form. It is secret. The log gets a name that no other has.
func NewKey() string {
	secret, _, err := note.GenerateKey(rand.Reader, "galley-"+strings.ToLower(rand.Text()[:nameLength]))
	if err != nil {
		panic("make a signing key: " + err.Error()) // neither the name nor the source of randomness can be at fault
	}
	return secret
}

// ErrKey says that a text is not a signing key.
var ErrKey = errors.New("not a signing key, PRIVATE+KEY+<name>+<hash>+<key>")

// ParseKey reads the text form of a key. Its errors do not repeat the text.
func ParseKey(text string) (Key, error) {
	signer, err := note.NewSigner(text)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	// The key is the fifth part, and may itself have a + in it.
	parts := strings.SplitN(text, "+", keyParts)
	seed, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return Key{}, ErrKey
	}
	private := ed25519.NewKeyFromSeed(seed[1:])
	public, err := note.NewEd25519VerifierKey(signer.Name(), ed25519.PublicKey(private[ed25519.SeedSize:]))
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return Key{Signer: signer, Verifier: verifier, Public: public, seed: seed[1:]}, nil
}
