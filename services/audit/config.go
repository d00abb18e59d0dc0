package audit

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/services/audit/internal/publish"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// Config holds the settings that only this service has.
type Config struct {
	// Key signs the tree heads, as NewKey makes it. Every process of the service has the same.
	Key string `env:"GALLEY_AUDIT_KEY"`
	// FormerKeys are the public keys that the log had before: its tree heads of then are verified with them.
	FormerKeys []string `env:"GALLEY_AUDIT_FORMER_KEYS"`
	// HeadsDir is a directory that tree heads are written to as well, best where whoever has the database cannot change it; empty for none.
	HeadsDir string `env:"GALLEY_AUDIT_HEADS_DIR"`
	// HeadsBucket is a bucket of an S3 store for them.
	HeadsBucket HeadsBucket
	// VerifyInterval is how often the log verifies itself, 0 for never.
	VerifyInterval time.Duration `env:"GALLEY_AUDIT_VERIFY_INTERVAL" envDefault:"24h"`
	// AllowedHosts are the host:port pairs outside the public internet that tree heads may be delivered to, the same as the executor's.
	AllowedHosts []string `env:"GALLEY_ALLOWED_HOSTS"`
}

// HeadsBucket says which bucket tree heads are written to, and on whose account.
type HeadsBucket = publish.BucketSettings

// minVerifyInterval leaves the database time for something else.
const minVerifyInterval = time.Minute

// Validate joins everything that is wrong.
func (c Config) Validate() error {
	var problems []error
	if c.Key == "" {
		problems = append(problems, errors.New("GALLEY_AUDIT_KEY is not set: the key that signs the audit log, from \"galley audit new-key\""))
	} else if _, err := tree.ParseKey(c.Key); err != nil {
		problems = append(problems, fmt.Errorf("GALLEY_AUDIT_KEY: %w", err))
	}
	problems = append(problems, ValidateVerifyInterval(c.VerifyInterval), ValidateFormerKeys(c.FormerKeys), c.HeadsBucket.Validate())
	if err := outbound.AllowedHosts(c.AllowedHosts).Validate(); err != nil {
		problems = append(problems, fmt.Errorf("GALLEY_ALLOWED_HOSTS: %w", err))
	}
	return errors.Join(problems...)
}

// ValidateVerifyInterval checks Config.VerifyInterval.
func ValidateVerifyInterval(interval time.Duration) error {
	if interval != 0 && interval < minVerifyInterval {
		return fmt.Errorf("GALLEY_AUDIT_VERIFY_INTERVAL is %v: must be at least %v, or 0 for never", interval, minVerifyInterval)
	}
	return nil
}

// ValidateFormerKeys checks Config.FormerKeys.
func ValidateFormerKeys(keys []string) error {
	for _, key := range keys {
		if _, err := note.NewVerifier(key); err != nil {
			return fmt.Errorf("GALLEY_AUDIT_FORMER_KEYS: %.100q is not a public key, <name>+<hash>+<key>", key)
		}
	}
	return nil
}

// NewKey makes the key of a new audit log, with a name of its own. It is secret.
func NewKey() string {
	return tree.NewKey()
}

// PublicKey is what whoever verifies the log needs of its key: it is no secret.
func PublicKey(key string) (string, error) {
	parsed, err := tree.ParseKey(key)
	return parsed.Public, err
}
