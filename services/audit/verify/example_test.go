package verify_test

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/services/audit/internal/tree"
	"github.com/galley-engine/galley/services/audit/verify"
)

// ExampleInclusion checks a proof: what the log gives for an event, with the public key, which whoever checks has from elsewhere.
func ExampleInclusion() {
	proof, publicKey, err := proofOfOne()
	if err != nil {
		fmt.Println(err)
		return
	}
	included, err := verify.Inclusion(&proof, verify.Options{Key: publicKey})
	fmt.Println(included.EventID, included.Index, included.Head.Size, included.Payload, err)

	proof.Leaf = strings.Replace(proof.Leaf, "success", "failed", 1)
	_, err = verify.Inclusion(&proof, verify.Options{Key: publicKey})
	fmt.Println(errors.Is(err, verify.ErrProof))
	// Output:
	// execution_1/accepted 0 1 erased <nil>
	// true
}

// proofOfOne is the proof for the only leaf of a log.
func proofOfOne() (proof audit.Inclusion, publicKey string, err error) {
	key, err := tree.ParseKey(tree.NewKey())
	if err != nil {
		return proof, "", err
	}
	const leaf = `{"v":2,"event_id":"execution_1/accepted","type":"dev.galley.execution.accepted.v1","time":"2026-01-02T03:04:05Z",` +
		`"customer_id":"cust_001","customer_sequence":1,"actor_type":"api_key","actor_id":"key_1","action_type":"execution.accepted",` +
		`"resource_type":"execution","resource_id":"execution_1","outcome":"success",` +
		`"data_digest":"fa04fb8ad179b63ec933307539164da333b807816f589fb98ebf653c36d2d887"}`
	var log tree.Edge
	log.Append(tree.LeafHash([]byte(leaf)))
	head := tree.Head{Origin: key.Signer.Name(), Size: log.Size(), Root: log.Root(), Time: time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)}
	signed, err := head.Sign(key.Signer)
	return audit.Inclusion{EventID: "execution_1/accepted", Leaf: leaf, Note: string(signed)}, key.Public, err
}
