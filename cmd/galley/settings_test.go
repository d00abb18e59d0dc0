package main

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whatever is wrong with the settings: one line that names the setting, exit 2, and nothing was started.
func TestWrongSettings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		environment, args []string
		want              string
	}{
		"unknown variable":      {[]string{"GALLEY_HTP_ADDR=x"}, nil, "GALLEY_HTP_ADDR is not a setting: did you mean GALLEY_HTTP_ADDR?"},
		"unknown flag":          {nil, []string{"--fast"}, "unknown flag --fast"},
		"address without port":  {[]string{"GALLEY_HTTP_ADDR=localhost"}, nil, `GALLEY_HTTP_ADDR is "localhost"`},
		"port too large":        {[]string{"GALLEY_SANDBOX_ADDR=127.0.0.1:65536"}, nil, "GALLEY_SANDBOX_ADDR"},
		"port zero":             {[]string{"GALLEY_NATS_ADDR=127.0.0.1:0"}, nil, "GALLEY_NATS_ADDR"},
		"NATS for everybody":    {[]string{"GALLEY_NATS_ADDR=0.0.0.0:4222"}, nil, "must be a loopback address"},
		"NATS on all addresses": {[]string{"GALLEY_NATS_ADDR=:4222"}, nil, "must be a loopback address"},
		"NATS on a network":     {nil, []string{"--nats-addr", "192.168.1.1:4222"}, "GALLEY_NATS_ADDR"},
		"durability":            {[]string{"GALLEY_DURABILITY=sure"}, nil, `GALLEY_DURABILITY is "sure"`},
		"cluster of one":        {[]string{"GALLEY_DURABILITY=cluster"}, nil, "GALLEY_NATS_URL"},
		"log level":             {nil, []string{"--log-level", "loud"}, `GALLEY_LOG_LEVEL is "loud"`},
		"no duration":           {[]string{"GALLEY_ACK_WAIT=soon"}, nil, "GALLEY_ACK_WAIT"},
		"short duration":        {[]string{"GALLEY_ACK_WAIT=1ms"}, nil, "GALLEY_ACK_WAIT is 1ms"},
		"short interval":        {[]string{"GALLEY_RECONCILE_INTERVAL=1s"}, nil, "GALLEY_RECONCILE_INTERVAL is 1s: must be 0 or at least 1m0s"},
		"short retention":       {[]string{"GALLEY_JOURNAL_RETENTION=1h"}, nil, "journal retention 1h"},
		"concurrency":           {[]string{"GALLEY_CONCURRENCY=0"}, nil, "GALLEY_CONCURRENCY is 0"},
		"allowed hosts":         {[]string{"GALLEY_ALLOWED_HOSTS=localhost"}, nil, "GALLEY_ALLOWED_HOSTS"},
		"NATS URL":              {[]string{"GALLEY_NATS_URL=http://localhost"}, nil, "GALLEY_NATS_URL must be a URL that begins with nats://"},
		"database URL":          {[]string{"GALLEY_DATABASE_URL=mysql://secret@localhost"}, nil, "GALLEY_DATABASE_URL must be a URL that begins with postgres://"},
		"bucket without a key":  {[]string{"GALLEY_AUDIT_HEADS_BUCKET=s3://heads", "AWS_REGION=eu-central-1"}, nil, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"},
		"no bucket":             {[]string{"AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b"}, []string{"--audit-heads-bucket", "heads", "--aws-region", "eu-1"}, `GALLEY_AUDIT_HEADS_BUCKET is "heads"`},
		"no data directory":     {[]string{"GALLEY_DATA_DIR="}, nil, "GALLEY_DATA_DIR is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := install(t)
			refused(t, i, append(i.environment(), test.environment...), test.args, test.want)
			assert.NoDirExists(t, i.dir)
		})
	}
}

func TestTakenPorts(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, taken.Close()) })
	for _, variable := range []string{"GALLEY_HTTP_ADDR", "GALLEY_NATS_ADDR", "GALLEY_SANDBOX_ADDR"} {
		t.Run(variable, func(t *testing.T) {
			t.Parallel()
			i := install(t)
			address := taken.Addr().String()
			refused(t, i, append(i.environment(), variable+"="+address), nil, variable+" is "+address+": that port is taken")
		})
	}
	t.Run("by another setting", func(t *testing.T) {
		t.Parallel()
		i := install(t)
		refused(t, i, append(i.environment(), "GALLEY_SANDBOX_ADDR="+i.http), nil, "GALLEY_SANDBOX_ADDR is "+i.http+": that port is taken")
	})
}

func refused(t *testing.T, i *installation, environment, args []string, want string) {
	t.Helper()
	cmd := command(t.Context(), environment, append([]string{"up"}, args...)...)
	var stdout, stderr output
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.Error(t, cmd.Run())
	assert.Equal(t, 2, cmd.ProcessState.ExitCode())
	assert.Empty(t, stdout.String())
	assert.Contains(t, stderr.String(), want)
	assert.True(t, strings.HasPrefix(stderr.String(), "galley: "), stderr.String())
	assert.Equal(t, 1, strings.Count(stderr.String(), "\n"), stderr.String())
	assert.NotContains(t, stderr.String(), "secret")
	assert.NoDirExists(t, filepath.Join(i.dir, "postgres"))
}

func TestRecipeCheck(t *testing.T) {
	t.Parallel()
	i := install(t)
	good := filepath.Join("..", "..", "recipes", "discovery.yaml")
	assert.Contains(t, i.succeed(t, "recipe", "check", good), "the-hunter/discovery is fine: 5 steps, at most 0.21 credits")

	document, err := os.ReadFile(good)
	require.NoError(t, err)
	broken := filepath.Join(t.TempDir(), "broken.yaml")
	text := strings.Replace(string(document), "uses: state.set", "uses: state.sets", 1)
	require.NoError(t, os.WriteFile(broken, []byte(text), 0o600))
	out, code := i.run(t, "recipe", "check", broken)
	assert.Equal(t, 1, code)
	before, _, _ := strings.Cut(text, "state.sets")
	line := strings.Count(before, "\n") + 1
	assert.Contains(t, out, broken+":"+strconv.Itoa(line)+":")
	assert.Contains(t, out, "galley: the recipe has a mistake\n")

	out, code = i.run(t, "recipe", "check", filepath.Join(t.TempDir(), "none.yaml"))
	assert.Equal(t, 2, code)
	assert.Contains(t, out, "none.yaml")
}
