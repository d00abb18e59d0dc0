package audit

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/metric"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/proof"
	"github.com/galley-engine/galley/services/audit/internal/publish"
	"github.com/galley-engine/galley/services/audit/internal/reader"
	"github.com/galley-engine/galley/services/audit/internal/verification"
	"github.com/galley-engine/galley/services/audit/internal/webhook"
	"github.com/galley-engine/galley/services/audit/internal/writer"
)

// sources are what the figures are read from.
type sources struct {
	prover  *proof.Prover
	rows    *reader.Reader
	signer  *writer.Signer
	outside *publish.All
	// pool acts as the role that writes the log.
	pool     *pgxpool.Pool
	origin   string
	interval time.Duration
	clock    clock.Clock
}

// figures tell how the log stands. All processes tell the same, since they read it from the database; but what is published where is told by
// the one that publishes.
type figures struct {
	sources

	size, signed, signedAt, fault, published, behind, webhooks, overdue, verifiedAt, findings, every *prometheus.Desc
}

func newFigures(from sources) *figures {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("galley_audit_"+name, help, labels, nil)
	}
	return &figures{
		sources:    from,
		size:       describe("rows", "Rows of the audit log."),
		signed:     describe("signed_rows", "Rows that the newest signed tree head covers."),
		signedAt:   describe("signed_timestamp_seconds", "When the newest tree head was signed, 0 for never."),
		fault:      describe("signing_fault", "1 when rows are not signed any more, else 0."),
		published:  describe("published_rows", "Rows that the newest tree head covers that the place is known to have.", "place"),
		behind:     describe("publish_behind_seconds", "For how long the place has been without the newest tree head, or has not answered.", "place"),
		webhooks:   describe("webhooks", "Webhooks that tree heads are delivered to, by how that goes.", "state"),
		overdue:    describe("webhooks_overdue_seconds", "For how long a delivery to a webhook has been due, at most."),
		verifiedAt: describe("verified_timestamp_seconds", "When the log was verified last, 0 for never."),
		findings:   describe("verification_findings", "How many things that verification found wrong."),
		every:      describe("verify_interval_seconds", "How often the log is verified, 0 for never."),
	}
}

// Describe implements prometheus.Collector.
func (f *figures) Describe(descriptions chan<- *prometheus.Desc) {
	for _, one := range []*prometheus.Desc{
		f.size, f.signed, f.signedAt, f.fault, f.published, f.behind, f.webhooks, f.overdue, f.verifiedAt, f.findings, f.every,
	} {
		descriptions <- one
	}
}

// teller gives out a value.
type teller func(what *prometheus.Desc, value float64, labels ...string)

// Collect implements prometheus.Collector. What cannot be read is missing, and told to be.
func (f *figures) Collect(found chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), metric.Timeout)
	defer cancel()
	tell := func(what *prometheus.Desc, value float64, labels ...string) {
		found <- prometheus.MustNewConstMetric(what, prometheus.GaugeValue, value, labels...)
	}
	tell(f.every, f.interval.Seconds())
	f.places(tell)
	for _, part := range []struct {
		first *prometheus.Desc
		read  func(ctx context.Context, tell teller) error
	}{{f.size, f.log}, {f.webhooks, f.deliveries}, {f.verifiedAt, f.verification}} {
		if err := part.read(ctx, tell); err != nil {
			found <- prometheus.NewInvalidMetric(part.first, err)
		}
	}
}

func (f *figures) places(tell teller) {
	if !f.signer.Leads() {
		return
	}
	for _, at := range f.outside.States() {
		tell(f.published, float64(at.Size), at.Place)
		tell(f.behind, at.Behind.Seconds(), at.Place)
	}
}

func (f *figures) log(ctx context.Context, tell teller) error {
	head, err := f.prover.TreeHead(ctx, query.AuditTreeHeadRequest{})
	if err != nil {
		return err
	}
	tell(f.size, float64(head.Rows))
	tell(f.signed, float64(head.Size))
	signedAt, fault := 0.0, 0.0
	if head.SignedAt != nil {
		signedAt = seconds(head.SignedAt.UnixMilli())
	}
	if head.Fault != "" {
		fault = 1
	}
	tell(f.signedAt, signedAt)
	tell(f.fault, fault)
	return nil
}

func (f *figures) deliveries(ctx context.Context, tell teller) error {
	stand, err := webhook.Count(ctx, f.pool, f.origin, f.clock())
	if err != nil {
		return err
	}
	tell(f.webhooks, float64(stand.Delivering), "delivering")
	tell(f.webhooks, float64(stand.Failing), "failing")
	tell(f.webhooks, float64(stand.Withheld), "withheld")
	tell(f.overdue, stand.Overdue)
	return nil
}

func (f *figures) verification(ctx context.Context, tell teller) error {
	last, err := verification.Latest(ctx, f.rows, f.origin)
	if err != nil {
		return err
	}
	verifiedAt := 0.0
	if !last.At.IsZero() {
		verifiedAt = seconds(last.At.UnixMilli())
	}
	tell(f.verifiedAt, verifiedAt)
	tell(f.findings, float64(last.Found))
	return nil
}

const millisecondsPerSecond = 1000

func seconds(milliseconds int64) float64 { return float64(milliseconds) / millisecondsPerSecond }
