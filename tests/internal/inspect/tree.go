package inspect

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
)

// auditTree makes the Merkle tree of the audit log anew, with an implementation that shares no code with galley's, and compares it with what
// is stored: the rows' order, each customer's chain, the root, and every tree head that was signed on the way. Signatures are not looked at.
func auditTree(ctx context.Context, conn *pgx.Conn) ([]error, error) {
	roots, err := storedRoots(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("read the tree heads of the audit log: %w", err)
	}
	// Rows may have come since then, for the log is told of this and that at any time; none can have gone.
	problems, err := walkLeaves(ctx, conn, roots)
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	return problems, nil
}

// storedRoots gives the roots that were signed, and the present one, by the number of leaves.
func storedRoots(ctx context.Context, conn *pgx.Conn) (map[int64][]byte, error) {
	roots := map[int64][]byte{}
	var size int64
	var root []byte
	if err := conn.QueryRow(ctx, `SELECT tree_size, root FROM audit.head`).Scan(&size, &root); err != nil {
		return nil, err
	}
	roots[size] = root
	rows, err := conn.Query(ctx, `SELECT size, note FROM audit.tree_heads`)
	if err != nil {
		return nil, err
	}
	var note string
	_, err = pgx.ForEachRow(rows, []any{&size, &note}, func() error {
		lines := strings.SplitN(note, "\n", 4)
		if len(lines) < 3 || lines[1] != strconv.FormatInt(size, 10) {
			return fmt.Errorf("the tree head of size %d is %q", size, note)
		}
		signed, err := base64.StdEncoding.DecodeString(lines[2])
		if present := roots[size]; present == nil || bytes.Equal(present, signed) {
			roots[size] = signed
			return err
		}
		return fmt.Errorf("the tree head of size %d is not of the tree that is stored", size)
	})
	return roots, err
}

// chained is what a chain is checked by.
type chained struct {
	CustomerID       string `json:"customer_id"`
	CustomerSequence int64  `json:"customer_sequence"`
	Previous         string `json:"previous"`
}

// link is where a customer's chain ends.
type link struct {
	sequence int64
	hash     string
}

func walkLeaves(ctx context.Context, conn *pgx.Conn, roots map[int64][]byte) ([]error, error) {
	rows, err := conn.Query(ctx, `SELECT sequence, leaf FROM audit.events ORDER BY sequence`)
	if err != nil {
		return nil, err
	}
	var problems []error
	tree := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	ends := map[string]link{}
	var sequence, count int64
	var leaf []byte
	_, err = pgx.ForEachRow(rows, []any{&sequence, &leaf}, func() error {
		if count++; sequence != count {
			problems = append(problems, fmt.Errorf("row %d of the audit log has the sequence %d", count, sequence))
			count = sequence
		}
		hash := rfc6962.DefaultHasher.HashLeaf(leaf)
		if err := follow(ends, leaf, hash); err != nil {
			problems = append(problems, fmt.Errorf("row %d of the audit log: %w", sequence, err))
		}
		if err := tree.Append(hash, nil); err != nil {
			return err
		}
		want, signed := roots[count]
		delete(roots, count)
		if !signed {
			return nil
		}
		root, err := tree.GetRootHash(nil)
		if err == nil && !bytes.Equal(root, want) {
			problems = append(problems, fmt.Errorf("the first %d rows of the audit log have another root than was stored or signed", count))
		}
		return err
	})
	for size := range roots {
		if size != 0 {
			problems = append(problems, fmt.Errorf("the audit log has %d rows, and a root of %d", count, size))
		}
	}
	return problems, err
}

var errChain = errors.New("it does not follow the customer's row before")

func follow(ends map[string]link, leaf, hash []byte) error {
	var of chained
	if err := json.Unmarshal(leaf, &of); err != nil {
		return err
	}
	before := ends[of.CustomerID]
	ends[of.CustomerID] = link{sequence: before.sequence + 1, hash: hex.EncodeToString(hash)}
	if of.CustomerSequence != before.sequence+1 || of.Previous != before.hash {
		return fmt.Errorf("%w: customer %q, leaf %d", errChain, of.CustomerID, of.CustomerSequence)
	}
	return nil
}
