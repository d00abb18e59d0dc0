package catalogue

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/ingest/internal/activity"
)

// KeyPrefix begins every API key: 256 random bits in base64url. The prefix lets people and secret scanners recognise it.
const (
	KeyPrefix = "gk_"
	keyBytes  = 32
	keyIDSize = 8
)

// Identity is whom an API key stands for.
type Identity struct {
	Customer string
	KeyID    string
}

// IssuedKey is a new API key. Secret is stored nowhere.
type IssuedKey struct {
	KeyID     string    `json:"key_id"`
	Name      string    `json:"name"`
	Secret    string    `json:"api_key"`
	CreatedAt time.Time `json:"created_at"`
}

// CreateKey makes a further API key for a customer.
func (c *Catalogue) CreateKey(ctx context.Context, customer, name string, author Author) (IssuedKey, error) {
	var found rules
	found.id("/customer_id", customer)
	found.text("/name", name, maxName)
	if err := found.err(); err != nil {
		return IssuedKey{}, err
	}
	var key IssuedKey
	err := postgres.Transact(ctx, c.pool, customer, func(tx pgx.Tx) (err error) {
		key, err = c.issueKey(ctx, tx, customer, name, author)
		return err
	})
	if err != nil {
		return IssuedKey{}, failure("create API key", err)
	}
	c.outbox.Wake()
	return key, nil
}

func (c *Catalogue) issueKey(ctx context.Context, tx pgx.Tx, customer, name string, author Author) (IssuedKey, error) {
	// crypto/rand never fails: it ends the process instead.
	var random [keyBytes + keyIDSize]byte
	_, _ = rand.Read(random[:])
	key := IssuedKey{
		KeyID: "key_" + hex.EncodeToString(random[keyBytes:]), Name: name,
		Secret: KeyPrefix + base64.RawURLEncoding.EncodeToString(random[:keyBytes]), CreatedAt: c.clock(),
	}
	hash := hashKey(key.Secret)
	_, err := tx.Exec(ctx, `INSERT INTO ingest.api_keys (key_id, customer_id, hash, name, created_at) VALUES ($1, $2, $3, $4, $5)`,
		key.KeyID, customer, hash[:], name, key.CreatedAt)
	if sqlState(err) == stateForeignKey {
		return IssuedKey{}, notFound("there is no customer %q", customer)
	}
	if err != nil {
		return IssuedKey{}, err
	}
	return key, c.record(ctx, tx, activity.Entry{
		Customer: customer, Action: event.ActionKeyCreated, ResourceID: key.KeyID, Author: author, After: map[string]any{"name": name},
	})
}

// Key is an API key as it can be told of.
type Key struct {
	KeyID     string    `json:"key_id"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
	// RevokedAt is absent for a key that is good.
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
}

// Keys lists a customer's API keys, those that were revoked too, by id, from the one after the given id.
func (c *Catalogue) Keys(ctx context.Context, customer, after string, limit int) (page []Key, more bool, err error) {
	if err := c.RequireCustomer(ctx, customer); err != nil {
		return nil, false, err
	}
	err = postgres.Query(ctx, c.pool, customer, func(batch *pgx.Batch) {
		batch.Queue(`SELECT key_id, name, created_at, revoked_at FROM ingest.api_keys
			 WHERE customer_id = $1 AND key_id > $2 ORDER BY key_id LIMIT $3`,
			customer, after, limit+1).Query(func(rows pgx.Rows) (err error) {
			page, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Key])
			return err
		})
	})
	if err != nil {
		return nil, false, failure("list API keys", err)
	}
	if len(page) > limit {
		return page[:limit], true, nil
	}
	return page, false, nil
}

// RevokeKey makes an API key good for nothing, for good: at once in this process, within seconds in others that miss the news. One that was
// revoked before stays as it is.
func (c *Catalogue) RevokeKey(ctx context.Context, customer, keyID string, author Author) error {
	var found rules
	found.id("/customer_id", customer)
	found.id("/key_id", keyID)
	if err := found.err(); err != nil {
		return err
	}
	err := postgres.Transact(ctx, c.pool, customer, func(tx pgx.Tx) error {
		now := c.clock()
		tag, err := tx.Exec(ctx, `UPDATE ingest.api_keys SET revoked_at = $3 WHERE customer_id = $1 AND key_id = $2 AND revoked_at IS NULL`,
			customer, keyID, now)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return revokedBefore(ctx, tx, customer, keyID)
		}
		return c.record(ctx, tx, activity.Entry{
			Customer: customer, Action: event.ActionKeyRevoked, ResourceID: keyID, Author: author,
			Before: map[string]any{"revoked_at": nil}, After: map[string]any{"revoked_at": now},
		})
	})
	if err != nil {
		return failure("revoke API key", err)
	}
	c.forget(customer, resourceKey)
	c.outbox.Wake()
	return nil
}

// revokedBefore is NOT_FOUND for a key that does not exist.
func revokedBefore(ctx context.Context, tx pgx.Tx, customer, keyID string) error {
	var known bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM ingest.api_keys WHERE customer_id = $1 AND key_id = $2)`, customer, keyID).Scan(&known)
	if err == nil && !known {
		return notFound("there is no API key %q", keyID)
	}
	return err
}

// hashKey is what is stored of a key. A slow hash with a salt protects secrets that can be guessed; 256 random bits cannot, so one
// round of SHA-256 is enough, and every request needs it.
func hashKey(secret string) [sha256.Size]byte {
	return sha256.Sum256([]byte(secret))
}

// Authenticate tells whom an API key stands for; UNAUTHENTICATED when it is not known or was revoked. The key is looked up by its
// hash, so how long that takes says nothing about the key itself.
func (c *Catalogue) Authenticate(ctx context.Context, secret string) (Identity, error) {
	unknown := &problem.Error{Code: problem.Unauthenticated, Message: "the API key is not known"}
	if !strings.HasPrefix(secret, KeyPrefix) || len(secret) != len(KeyPrefix)+base64.RawURLEncoding.EncodedLen(keyBytes) {
		return Identity{}, unknown
	}
	hash := hashKey(secret)
	return c.keys.get(ctx, string(hash[:]), func(ctx context.Context) (Identity, error) {
		var identity Identity
		err := postgres.Query(ctx, c.pool, postgres.EveryCustomer, func(batch *pgx.Batch) {
			batch.Queue(`SELECT customer_id, key_id FROM ingest.api_keys WHERE hash = $1 AND revoked_at IS NULL`, hash[:]).
				QueryRow(func(row pgx.Row) error { return row.Scan(&identity.Customer, &identity.KeyID) })
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return Identity{}, unknown
		}
		if err != nil {
			return Identity{}, failure("look up API key", err)
		}
		return identity, nil
	})
}
