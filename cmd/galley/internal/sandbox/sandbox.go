// Package sandbox is a business directory over HTTP for recipes to call before there is anything real to call. Its entries are made
// up, and every answer says so: the telephone numbers are from the range reserved for fiction, the websites end in .example.
//
//	GET /search?q=dentists in california   the businesses that fit, the best rated first
//	GET /                                  what this is
package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Notice is part of every answer.
const Notice = "Sample data of the galley sandbox: none of these businesses exist."

const (
	maxResults     = 50
	maxQueryLength = 500
	headerTimeout  = 5 * time.Second
	drainTimeout   = 2 * time.Second
)

const about = `This is the sandbox of galley: a business directory for recipes to call.
` + Notice + `

Try
  /search?q=dentists+in+california
  /search?q=plumbers+in+seattle
  /search?q=bakeries+texas

Every answer is JSON: {"query", "notice", "results": [...], "total"}. There are at most 50 results, the best rated first.
It knows %d businesses. Start galley with --no-sandbox to do without it.
`

// Answer is the body of a search.
type Answer struct {
	Query   string     `json:"query"`
	Notice  string     `json:"notice"`
	Results []Business `json:"results"`
	// Total counts what fits; Results holds the best of them.
	Total int `json:"total"`
}

// Handler serves the directory.
func Handler() http.Handler {
	directory := NewDirectory()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = fmt.Fprintf(w, about, len(directory.businesses))
	})
	mux.HandleFunc("GET /search", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query().Get("q")
		if query == "" || len(query) > maxQueryLength {
			message := fmt.Sprintf("q must hold what to search for, in at most %d bytes: /search?q=dentists+in+california", maxQueryLength)
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": message, "notice": Notice})
			return
		}
		found := directory.Search(query)
		answer := Answer{Query: query, Notice: Notice, Results: []Business{}, Total: len(found)}
		answer.Results = append(answer.Results, found[:min(len(found), maxResults)]...)
		writeJSON(w, http.StatusOK, answer)
	})
	return mux
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// An error means that the caller has gone.
	_ = json.NewEncoder(w).Encode(body)
}

// Serve serves the directory on addr until ctx ends; requests under way are given two seconds then.
func Serve(ctx context.Context, addr string) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("serve the sandbox: %w", err)
	}
	server := &http.Server{Handler: Handler(), ReadHeaderTimeout: headerTimeout}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		stopped <- server.Shutdown(drain)
	})
	err = server.Serve(listener)
	if stop() {
		return fmt.Errorf("serve the sandbox: %w", err)
	}
	if err := <-stopped; err != nil {
		_ = server.Close()
	}
	return nil
}
