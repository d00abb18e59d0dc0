// Package audit is the service that keeps the audit log: one row for everything that was done, once and in one order, which
// nobody changes afterwards.
package audit

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/galley-engine/galley/pkg/health"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/process"
	"github.com/galley-engine/galley/services/audit/internal/proof"
	"github.com/galley-engine/galley/services/audit/internal/publish"
	"github.com/galley-engine/galley/services/audit/internal/reader"
	"github.com/galley-engine/galley/services/audit/internal/tree"
	"github.com/galley-engine/galley/services/audit/internal/verification"
	"github.com/galley-engine/galley/services/audit/internal/writer"
	"github.com/galley-engine/galley/services/audit/migrations"
)

// Service is the audit service.
type Service struct {
	deps     process.Deps
	key      tree.Key
	config   Config
	pools    *pools
	network  *outbound.Network
	bucket   *publish.Bucket // nil without one
	migrated atomic.Bool
}

// New makes the service. It connects to nothing yet, but must be run, which in the end closes what it opened.
func New(config Config, deps process.Deps) (*Service, error) {
	key, err := tree.ParseKey(config.Key)
	if err != nil {
		return nil, lifecycle.Usage(fmt.Errorf("GALLEY_AUDIT_KEY: %w", err))
	}
	if err := deps.RequireDatabase(); err != nil {
		return nil, err
	}
	network, err := outbound.New(config.AllowedHosts, deps.Clock)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	var bucket *publish.Bucket
	if config.HeadsBucket.URL != "" {
		if bucket, err = publish.NewBucket(config.HeadsBucket, key.Verifier); err != nil {
			return nil, lifecycle.Usage(err)
		}
	}
	opened, err := openPools(deps.DatabaseURL)
	if err != nil {
		return nil, err
	}
	return &Service{deps: deps, key: key, config: config, pools: opened, network: network, bucket: bucket}, nil
}

// Run brings the schema up to date, then writes the log and answers questions about it until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	defer s.pools.close()
	defer s.network.Close()
	if s.bucket != nil {
		defer s.bucket.Close()
	}
	report := func(err error) { s.deps.Logger.Warn().Err(err).Msg("audit schema not ready, trying again") }
	err := lifecycle.Retry(ctx, report, func(ctx context.Context) error {
		return postgres.Migrate(ctx, s.deps.DatabaseURL, migrations.Schema())
	})
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	s.migrated.Store(true)
	outside := s.outside()
	signer := writer.NewSigner(s.pools.writer, s.key, outside, s.deps.Clock, s.deps.Logger)
	prover := proof.New(proof.Deps{
		Pool: s.pools.reader, Key: s.key, Fault: signer.Fault, Clock: s.deps.Clock, Log: s.deps.Logger,
	})
	rows := reader.New(s.pools.reader)
	stand := newFigures(sources{
		prover: prover, rows: rows, signer: signer, outside: outside, pool: s.pools.writer,
		origin: s.key.Signer.Name(), interval: s.config.VerifyInterval, clock: s.deps.Clock,
	})
	if err := s.deps.Register(stand); err != nil {
		return err
	}
	verifier := verification.New(verification.Deps{
		Pool: s.pools.writer, Reader: rows, Bus: s.deps.Bus, Key: s.key.Public, Former: s.config.FormerKeys, Origin: s.key.Signer.Name(),
		Interval: s.config.VerifyInterval, Clock: s.deps.Clock, Log: s.deps.Logger,
	})
	appender := writer.New(s.pools.writer, s.deps.Bus, signer, s.deps.Clock, s.deps.Logger)
	work := append(append(s.answers(prover, rows), s.changes()...), outside.Run, appender.Run, verifier.Run)
	return lifecycle.Run(ctx, work...)
}

// outside is where tree heads are published.
func (s *Service) outside() *publish.All {
	all := publish.NewAll(s.key.Verifier, s.deps.Logger)
	all.Add("nats", publish.NewNATS(s.deps.Bus))
	if s.config.HeadsDir != "" {
		all.Add("directory", publish.NewDirectory(s.config.HeadsDir, s.key.Verifier))
	}
	if s.bucket != nil {
		all.AddEvery(publish.BucketInterval, "bucket", s.bucket)
	}
	return all
}

// Checks are what the service depends on.
func (s *Service) Checks() []health.Check {
	return []health.Check{
		{Name: "nats", Probe: s.deps.Bus.Ready},
		{Name: "postgres", Probe: func(ctx context.Context) error {
			if !s.migrated.Load() {
				return health.Pending("the schema is not up to date yet")
			}
			return s.pools.writer.Ping(ctx)
		}},
	}
}
