package endtoend_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/tests/internal/harness"
	"github.com/galley-engine/galley/tests/internal/harness/harnesstest"
	"github.com/galley-engine/galley/tests/internal/repository"
)

// demoCustomer is the customer of the demo, to whom galley up tells where the sandbox is.
const demoCustomer = "cust_001"

// example is one of docs/components.
type example struct {
	text     string
	Metadata struct {
		ID string `yaml:"id"`
	} `yaml:"metadata"`
	Spec struct {
		Input struct {
			Examples []map[string]any `yaml:"examples"`
		} `yaml:"input"`
	} `yaml:"spec"`
}

func examples(t *testing.T) map[string]example {
	t.Helper()
	root, err := repository.Root()
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(root, "docs", "components", "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	found := make(map[string]example, len(files))
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		e := example{text: string(text)}
		require.NoError(t, yaml.Unmarshal(text, &e))
		require.NotEmpty(t, e.Spec.Input.Examples, file)
		found[strings.TrimSuffix(filepath.Base(file), ".yaml")] = e
	}
	return found
}

// TestExamplesOfTheComponents runs the example of each kind as its page says: against the sandbox of galley up, without any account.
func TestExamplesOfTheComponents(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // ends with the test
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	installation := harnesstest.Start(t, harness.Config{
		Mode: harness.Single, Sandbox: true, AllowedHosts: []string{listener.Addr().String()},
	})
	demo := demoClient(t, installation)
	conn, err := installation.Connect()
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	serveShout(t, conn)
	// galley up makes this agent, too, at this moment.
	made, err := demo.Call(t.Context(), http.MethodPost, harness.API+"/agents", map[string]string{"agent_id": "examples", "name": "examples"})
	require.NoError(t, err)
	require.Contains(t, []int{http.StatusCreated, http.StatusConflict}, made.Status, "%s", made)
	for name, value := range map[string]string{
		"leads_database": relayPostgres(t, installation, listener), "webhook_key": "whsec_Z2FsbGV5IGV4YW1wbGVzIHNhbmRib3gh",
	} {
		answer, err := demo.Call(t.Context(), http.MethodPut, harness.API+"/secrets/"+name, map[string]string{"value": value})
		require.NoError(t, err)
		require.Equal(t, http.StatusNoContent, answer.Status, "%s", answer)
	}
	all := examples(t)
	for kind, e := range all {
		require.NoError(t, demo.Publish(t.Context(), e.text), kind)
	}
	for kind, e := range all {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			response := runExample(t, demo, conn, kind, e)
			require.Equal(t, event.StatusSuccess, response.Status, "%+v", response.Errors)
			require.NotEqual(t, "null", string(response.Data))
		})
	}
}

// demoClient is the customer of the demo, once there is one.
func demoClient(t *testing.T, installation *harness.Installation) *harness.Client {
	t.Helper()
	var key []byte
	eventually(t, "the customer of the example is made", func() bool {
		var err error
		key, err = os.ReadFile(filepath.Join(installation.DataDir(), "demo.key"))
		return err == nil
	})
	return &harness.Client{Base: installation.BaseURL(), Key: strings.TrimSpace(string(key))}
}

func runExample(t *testing.T, demo *harness.Client, conn *nats.Conn, kind string, e example) event.Response {
	t.Helper()
	answer, err := demo.Call(t.Context(), http.MethodPost, harness.API+"/recipes/execute", run{
		"agent_id": "examples", "recipe_id": e.Metadata.ID, "input_data": e.Spec.Input.Examples[0],
	}, "Prefer", "respond-async")
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, answer.Status, "%s", answer)
	var accepted event.Response
	require.NoError(t, answer.JSON(&accepted))
	path := harness.API + "/executions/" + accepted.ExecutionID
	switch kind {
	case "wait.event":
		execution := subject.Execution{Customer: demoCustomer, ID: accepted.ExecutionID}
		require.NoError(t, conn.Publish(execution.Signal("payment"), []byte(`{"amount": 100}`)))
	case "approval":
		eventually(t, "somebody is asked", func() bool {
			answer, err := demo.Call(t.Context(), http.MethodPost, path+"/approvals/ask", map[string]any{"approved": true})
			require.NoError(t, err)
			return answer.Status == http.StatusAccepted
		})
	}
	var response event.Response
	eventually(t, "the example of "+kind+" ends", func() bool {
		answer, err := demo.Call(t.Context(), http.MethodGet, path, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, answer.Status, "%s", answer)
		response = event.Response{}
		require.NoError(t, answer.JSON(&response))
		return response.Status.Terminal()
	})
	return response
}

// relayPostgres makes galley's own Postgres, which has a Unix socket only, reachable over TCP, and gives its URL there.
func relayPostgres(t *testing.T, installation *harness.Installation, listener net.Listener) string {
	t.Helper()
	address, err := installation.DatabaseURL()
	require.NoError(t, err)
	config, err := pgx.ParseConfig(address)
	require.NoError(t, err)
	network, socket := pgconn.NetworkAddress(config.Host, config.Port)
	go func() {
		for {
			inner, err := listener.Accept()
			if err != nil {
				return
			}
			outer, err := net.Dial(network, socket) //nolint:noctx // ends with either side
			if err != nil {
				_ = inner.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{inner, outer}, {outer, inner}} {
				go func() {
					_, _ = io.Copy(way[0], way[1])
					_ = way[0].Close()
				}()
			}
		}
	}()
	return fmt.Sprintf("postgres://%s:unused@%s/%s?sslmode=disable", config.User, listener.Addr(), config.Database)
}

// serveShout is a worker without any help.
func serveShout(t *testing.T, conn *nats.Conn) {
	t.Helper()
	_, err := conn.QueueSubscribe(subject.Worker("*", "shout"), "galley", func(message *nats.Msg) {
		var call struct {
			Input struct {
				Text string `json:"text"`
			} `json:"input"`
		}
		if json.Unmarshal(message.Data, &call) != nil {
			return
		}
		reply, err := json.Marshal(map[string]any{"output": map[string]string{"text": strings.ToUpper(call.Input.Text) + "!"}})
		if err == nil {
			_ = message.Respond(reply) // a caller who hears nothing says so
		}
	})
	require.NoError(t, err)
	require.NoError(t, conn.Flush())
}
