package writer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/services/audit/internal/storedtree"
)

// Fault is why no tree heads are signed, without what only the log of the service may say.
type Fault string

const (
	// FaultNone: they are, or nobody says why not.
	FaultNone Fault = ""
	// FaultRewound is ErrRewound. It does not pass by itself.
	FaultRewound Fault = "rewound"
	// FaultUnanswered: no place that tree heads are published in says what it has, so there is nothing to compare the log with.
	FaultUnanswered Fault = "unanswered"
	// FaultFailing is anything else. It is tried again.
	FaultFailing Fault = "failing"
)

// faultLasts is how long the word of a signer counts. One that lives repeats it, at the latest every few seconds.
const faultLasts = time.Minute

// errUnanswered is behind FaultUnanswered.
var errUnanswered = errors.New("it is not known what was published of the log")

// FaultOf is what a signer tells others of its error.
func FaultOf(err error) Fault {
	switch {
	case err == nil:
		return FaultNone
	case errors.Is(err, ErrRewound):
		return FaultRewound
	case errors.Is(err, errUnanswered):
		return FaultUnanswered
	}
	return FaultFailing
}

// ToldFault reads what the signer of the log says, whichever process it is in.
func ToldFault(ctx context.Context, db storedtree.Querier, origin string) (Fault, error) {
	const statement = `SELECT fault FROM audit.signing_fault WHERE origin = $1 AND told_at > now() - $2::interval`
	var told Fault
	err := db.QueryRow(ctx, statement, origin, faultLasts).Scan(&told)
	if errors.Is(err, pgx.ErrNoRows) {
		return FaultNone, nil
	}
	if err != nil {
		return FaultNone, fmt.Errorf("read why nothing is signed: %w", err)
	}
	return told, nil
}

func tellFault(ctx context.Context, pool *pgxpool.Pool, origin string, told Fault) error {
	const statement = `UPDATE audit.signing_fault SET origin = $1, fault = $2, told_at = now()`
	if _, err := pool.Exec(ctx, statement, origin, told); err != nil {
		return fmt.Errorf("tell why nothing is signed: %w", err)
	}
	return nil
}
