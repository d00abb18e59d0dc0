// Package secret keeps customers' secrets: texts that recipes read as secrets.<name>, encrypted in a key-value bucket. Ingest, which
// writes them, and the executor, which reads them, share the keys; nothing else of galley has one.
package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Setting is the variable that holds the keys.
const Setting = "GALLEY_SECRETS_KEY"

const (
	// keySize makes it AES-256.
	keySize = 32
	// idSize is how many bytes of a key's SHA-256 name it.
	idSize = 4
)

var (
	// ErrNoKey says that there is no key, so that nothing can be sealed.
	ErrNoKey = errors.New(Setting + " is not set")
	// ErrUnreadable says that a stored secret cannot be opened: it was sealed with a key that is not here, or it is damaged. It stays
	// so until somebody gives the key or sets the secret again.
	ErrUnreadable = errors.New("the stored secret cannot be opened")
)

// Keys are those of an installation. The first one seals, all open. The zero value has none.
type Keys struct{ keys []key }

type key struct {
	id string
	// aead is AES-256-GCM with a random nonce in front of the ciphertext.
	aead cipher.AEAD
}

// NewKey makes a key as ParseKeys reads it.
func NewKey() string {
	var random [keySize]byte
	_, _ = rand.Read(random[:]) // it never fails: it ends the process instead
	return base64.StdEncoding.EncodeToString(random[:])
}

// ParseKeys reads keys of 32 bytes each, in base64, separated by commas; "" is no key. Its error does not repeat the text.
func ParseKeys(text string) (Keys, error) {
	var parsed Keys
	if text == "" {
		return parsed, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		raw, err := base64.StdEncoding.DecodeString(part)
		if err != nil || len(raw) != keySize {
			return Keys{}, fmt.Errorf("%s must hold keys of %d bytes in base64, separated by commas: openssl rand -base64 %d makes one",
				Setting, keySize, keySize)
		}
		made, err := newKey(raw)
		if err != nil {
			return Keys{}, err
		}
		parsed.keys = append(parsed.keys, made)
	}
	return parsed, nil
}

func newKey(raw []byte) (key, error) {
	block, err := aes.NewCipher(raw)
	if err != nil {
		return key{}, fmt.Errorf("make cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return key{}, fmt.Errorf("make cipher: %w", err)
	}
	hash := sha256.Sum256(raw)
	return key{id: hex.EncodeToString(hash[:idSize]), aead: aead}, nil
}

// None tells whether there is no key.
func (k Keys) None() bool { return len(k.keys) == 0 }

// seal encrypts a value for one place: moved to another one, to another customer's above all, it cannot be opened.
func (k Keys) seal(place, value string) (keyID string, sealed []byte, err error) {
	if k.None() {
		return "", nil, ErrNoKey
	}
	first := k.keys[0]
	return first.id, first.aead.Seal(nil, nil, []byte(value), []byte(place)), nil //nolint:gosec // it makes the nonce itself
}

func (k Keys) open(place, keyID string, sealed []byte) (string, error) {
	at := slices.IndexFunc(k.keys, func(k key) bool { return k.id == keyID })
	if at < 0 {
		return "", fmt.Errorf("%w: it was sealed with the key %q, and %s holds %s", ErrUnreadable, keyID, Setting, k.names())
	}
	value, err := k.keys[at].aead.Open(nil, nil, sealed, []byte(place))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return string(value), nil
}

func (k Keys) names() string {
	if k.None() {
		return "no key"
	}
	names := make([]string, 0, len(k.keys))
	for _, key := range k.keys {
		names = append(names, key.id)
	}
	return strings.Join(names, ", ")
}
