package audit

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/galley-engine/galley/pkg/metric"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/proof"
	"github.com/galley-engine/galley/services/audit/internal/reader"
	"github.com/galley-engine/galley/services/audit/internal/verification"
)

// figures tell how the log stands. All processes tell the same: they read it from the log.
type figures struct {
	prover   *proof.Prover
	rows     *reader.Reader
	origin   string
	interval time.Duration

	size, signed, signedAt, fault, verifiedAt, findings, every *prometheus.Desc
}

func newFigures(prover *proof.Prover, rows *reader.Reader, origin string, interval time.Duration) *figures {
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("galley_audit_"+name, help, nil, nil)
	}
	return &figures{
		prover: prover, rows: rows, origin: origin, interval: interval,
		size:       describe("rows", "Rows of the audit log."),
		signed:     describe("signed_rows", "Rows that the newest signed tree head covers."),
		signedAt:   describe("signed_timestamp_seconds", "When the newest tree head was signed, 0 for never."),
		fault:      describe("signing_fault", "1 when rows are not signed any more, else 0."),
		verifiedAt: describe("verified_timestamp_seconds", "When the whole log was verified last, 0 for never."),
		findings:   describe("verification_findings", "How many things that verification found wrong."),
		every:      describe("verify_interval_seconds", "How often the log is verified, 0 for never."),
	}
}

// Describe implements prometheus.Collector.
func (f *figures) Describe(descriptions chan<- *prometheus.Desc) {
	for _, one := range []*prometheus.Desc{f.size, f.signed, f.signedAt, f.fault, f.verifiedAt, f.findings, f.every} {
		descriptions <- one
	}
}

// Collect implements prometheus.Collector. What cannot be read is missing, and told to be.
func (f *figures) Collect(found chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), metric.Timeout)
	defer cancel()
	tell := func(what *prometheus.Desc, value float64) {
		found <- prometheus.MustNewConstMetric(what, prometheus.GaugeValue, value)
	}
	tell(f.every, f.interval.Seconds())
	head, err := f.prover.TreeHead(ctx, query.AuditTreeHeadRequest{})
	if err != nil {
		found <- prometheus.NewInvalidMetric(f.size, err)
		return
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
	last, err := verification.Latest(ctx, f.rows, f.origin)
	if err != nil {
		found <- prometheus.NewInvalidMetric(f.verifiedAt, err)
		return
	}
	verifiedAt := 0.0
	if !last.At.IsZero() {
		verifiedAt = seconds(last.At.UnixMilli())
	}
	tell(f.verifiedAt, verifiedAt)
	tell(f.findings, float64(last.Found))
}

const millisecondsPerSecond = 1000

func seconds(milliseconds int64) float64 { return float64(milliseconds) / millisecondsPerSecond }
