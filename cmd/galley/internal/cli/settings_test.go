package cli

import (
	"io"
	"slices"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/config"
	"github.com/galley-engine/galley/pkg/process"
	"github.com/galley-engine/galley/services/audit"
	"github.com/galley-engine/galley/services/billing"
	"github.com/galley-engine/galley/services/executor"
	"github.com/galley-engine/galley/services/ingest"
)

// Whatever a service reads as a process of its own can be set for "galley up", under the same name and with the same default.
func TestSettingsAreThoseOfTheServices(t *testing.T) {
	t.Parallel()
	var commands grammar
	parser, err := kong.New(&commands, kong.Writers(io.Discard, io.Discard))
	require.NoError(t, err)
	known := variables(parser)
	ours := []string{
		"GALLEY_HEALTH_ADDR",  // GALLEY_METRICS_ADDR is it, for all of them
		"GALLEY_OPERATOR_KEY", // it is generated
		"GALLEY_SECRETS_KEY",  // so is this
		"GALLEY_AUDIT_KEY",    // and this
	}
	for _, target := range []any{&process.Settings{}, &ingest.Config{}, &billing.Config{}, &executor.Config{}, &audit.Config{}} {
		names, err := config.Names(target)
		require.NoError(t, err)
		for _, name := range names {
			assert.True(t, slices.Contains(known, name) || slices.Contains(ours, name), "%s of %T", name, target)
		}
	}

	_, err = parser.Parse([]string{"up"})
	require.NoError(t, err)
	var shared processSettings
	require.NoError(t, config.Load(&shared, nil))
	up := commands.Up.settings
	assert.Equal(t, shared.JournalRetention, up.JournalRetention)
	assert.Equal(t, shared.AckWait, up.AckWait)
	assert.Equal(t, shared.Durability, up.Durability)
	var alone executorConfig
	require.NoError(t, config.Load(&alone, nil))
	assert.Equal(t, alone.Config, up.executor())
	var money billing.Config
	require.NoError(t, config.Load(&money, nil))
	assert.Equal(t, money, up.billing())
	var log auditConfig
	require.NoError(t, config.Load(&log, nil))
	assert.Equal(t, log.VerifyInterval, up.AuditVerify)
	var door ingestConfig
	require.NoError(t, config.Load(&door, nil))
	assert.Equal(t, door.HTTPAddr, up.HTTPAddr)
}

// These load defaults without the rules for what has none.
type (
	processSettings struct{ process.Settings }
	executorConfig  struct{ executor.Config }
	ingestConfig    struct{ ingest.Config }
	auditConfig     struct{ audit.Config }
)

func (processSettings) Validate() error { return nil }
func (executorConfig) Validate() error  { return nil }
func (ingestConfig) Validate() error    { return nil }
func (auditConfig) Validate() error     { return nil }

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"", "ab", 2}, {"HTP", "HTTP", 1}, {"kitten", "sitting", 3}} {
		assert.Equal(t, test.want, distance(test.a, test.b), "%s %s", test.a, test.b)
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "/a/b.key", quote("/a/b.key"))
	assert.Equal(t, `'/a b/it'\''s'`, quote("/a b/it's"))
}

func TestBaseURL(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"127.0.0.1:8000": "http://127.0.0.1:8000", ":8000": "http://127.0.0.1:8000", "0.0.0.0:1": "http://127.0.0.1:1",
		"[::]:1": "http://127.0.0.1:1", "[::1]:1": "http://[::1]:1", "example.com:80": "http://example.com:80",
	} {
		assert.Equal(t, want, baseURL(addr))
	}
}
