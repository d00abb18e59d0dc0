// Package deployment_test checks the files that deploy galley as containers. No engine runs: the compose file is loaded as an engine
// would load it, and each image's build runs in a folder that holds nothing but what its Dockerfile copies.
package deployment_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/tests/internal/harness"
	"github.com/galley-engine/galley/tests/internal/harness/harnesstest"
	"github.com/galley-engine/galley/tests/internal/repository"
)

func TestMain(m *testing.M) { harnesstest.Main(m) }

const (
	secretsKey = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	auditKey   = "PRIVATE+KEY+galley-test+5007e685+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)

func root(t *testing.T) string {
	t.Helper()
	dir, err := repository.Root()
	require.NoError(t, err)
	return dir
}

func compose(t *testing.T) *types.Project {
	t.Helper()
	file := filepath.Join(root(t), "docker-compose.yml")
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: root(t), ConfigFiles: []types.ConfigFile{{Filename: file}},
		Environment: types.Mapping{
			"POSTGRES_PASSWORD": "secret", "GALLEY_OPERATOR_KEY": "galley_admin_0123456789abcdef0123456789abcdef",
			"GALLEY_SECRETS_KEY": secretsKey, "GALLEY_AUDIT_KEY": auditKey,
		},
	})
	require.NoError(t, err)
	return project
}

func TestComposeAsksForSecrets(t *testing.T) {
	t.Parallel()
	for _, missing := range []string{"POSTGRES_PASSWORD", "GALLEY_OPERATOR_KEY", "GALLEY_AUDIT_KEY"} {
		environment := types.Mapping{"POSTGRES_PASSWORD": "a", "GALLEY_OPERATOR_KEY": "b", "GALLEY_AUDIT_KEY": "c"}
		delete(environment, missing)
		_, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
			WorkingDir: root(t), Environment: environment,
			ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(root(t), "docker-compose.yml")}},
		})
		require.ErrorContains(t, err, missing)
	}
}

func TestComposeHasEverything(t *testing.T) {
	t.Parallel()
	project := compose(t)
	var names []string
	for name, service := range project.Services {
		names = append(names, name)
		assert.NotNil(t, service.HealthCheck, "%s has no health check", name)
		for _, port := range service.Ports {
			assert.Equal(t, "127.0.0.1", port.HostIP, "%s listens on more than this machine", name)
		}
	}
	require.ElementsMatch(t, append(harness.Services(), "nats", "postgres"), names)
	for _, stateful := range []string{"nats", "postgres"} {
		require.NotEmpty(t, project.Services[stateful].Volumes)
		require.Contains(t, project.Volumes, project.Services[stateful].Volumes[0].Source)
	}
}

// TestComposeSharesTheSecretsKey: those who seal and open secrets have the key, nobody else has.
func TestComposeSharesTheSecretsKey(t *testing.T) {
	t.Parallel()
	for name, service := range compose(t).Services {
		value, given := service.Environment["GALLEY_SECRETS_KEY"]
		require.Equal(t, name == harness.Ingest || name == harness.Executor, given, name)
		if given {
			require.Equal(t, secretsKey, *value)
		}
	}
}

// TestComposeNATSKeepsWhatItStores reads the server's configuration as the server would.
func TestComposeNATSKeepsWhatItStores(t *testing.T) {
	t.Parallel()
	nats := compose(t).Services["nats"]
	require.Equal(t, types.ShellCommand{"-c", "/etc/galley/nats.conf"}, nats.Command)
	require.Equal(t, nats.Command[1], nats.Volumes[1].Target)
	options, err := server.ProcessConfigFile(nats.Volumes[1].Source)
	require.NoError(t, err)
	require.True(t, options.JetStream)
	require.Equal(t, nats.Volumes[0].Target, options.StoreDir)
	require.Equal(t, time.Second, options.SyncInterval)
}

// TestComposeSettingsAreKnown runs each service with exactly the settings of the compose file and one that does not exist: it must
// complain of that one alone.
func TestComposeSettingsAreKnown(t *testing.T) {
	t.Parallel()
	project := compose(t)
	programs := harnesstest.Binaries(t, harness.Split)
	for _, service := range harness.Services() {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			command := exec.CommandContext(t.Context(), programs.Path(service))
			command.Env = []string{"GALLEY_NO_SUCH_SETTING=1"}
			for name, value := range project.Services[service].Environment {
				require.NotNil(t, value)
				command.Env = append(command.Env, name+"="+*value)
			}
			output, err := command.CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			require.Equal(t, 2, exit.ExitCode(), "%s", output)
			lines := strings.Split(strings.TrimSpace(string(output)), "\n")
			require.Len(t, lines, 1, "%s", output)
			require.Contains(t, lines[0], "GALLEY_NO_SUCH_SETTING is not a setting")
		})
	}
}

var copyLine = regexp.MustCompile(`(?m)^COPY (--from=\S+ )?(.*) (\S+)$`)

func dockerfile(t *testing.T, service string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), "services", service, "Dockerfile"))
	require.NoError(t, err)
	return string(text)
}

func TestDockerfiles(t *testing.T) {
	t.Parallel()
	project := compose(t)
	for _, service := range harness.Services() {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			build := project.Services[service].Build
			require.Equal(t, root(t), build.Context)
			require.Equal(t, "services/"+service+"/Dockerfile", build.Dockerfile)
			text := dockerfile(t, service)
			require.Equal(t, []string{"pkg", "schemas", "services/" + service}, copied(text))
			require.NotContains(t, text, "\nADD ")
			require.Regexp(t, `(?m)^USER 65532:65532$`, text)
			require.Regexp(t, `(?m)^HEALTHCHECK `, text)
			require.Regexp(t, `(?m)^ENV .*GOWORK=off`, text)
			require.Contains(t, text, "go build -trimpath -ldflags=\"-s -w\" -o /out/"+service+" ./cmd/"+service+"\n")
		})
	}
}

// copied lists what a Dockerfile takes from the build context.
func copied(dockerfile string) []string {
	var folders []string
	for _, match := range copyLine.FindAllStringSubmatch(dockerfile, -1) {
		if match[1] == "" {
			folders = append(folders, strings.Fields(match[2])...)
		}
	}
	return folders
}

func TestDockerfilesCopyEnough(t *testing.T) {
	t.Parallel()
	for _, service := range harness.Services() {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			context := t.TempDir()
			for _, folder := range copied(dockerfile(t, service)) {
				require.NoError(t, os.CopyFS(filepath.Join(context, folder), os.DirFS(filepath.Join(root(t), folder))))
			}
			command := exec.CommandContext(t.Context(), "go", "build", "-o", os.DevNull, "./cmd/"+service)
			command.Dir = filepath.Join(context, "services", service)
			command.Env = append(os.Environ(), "GOWORK=off")
			output, err := command.CombinedOutput()
			require.NoError(t, err, "%s", output)
		})
	}
}
