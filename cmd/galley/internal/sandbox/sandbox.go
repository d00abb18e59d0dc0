// Package sandbox is what recipes can call before there is anything real to call, over HTTP and SMTP: a business directory with sample
// data, a stand-in for a language model, and a mailbox for the e-mails, text messages and webhooks that recipes send. Nothing of it is
// real, nothing leaves it, and every answer says so: the directory's telephone numbers are from the range reserved for fiction, its
// websites end in .example.
//
//	GET  /search?q=dentists in california   the businesses that fit, the best rated first
//	POST /v1/chat/completions               the model, as OpenAI's API
//	POST /hooks/<name>                      takes webhooks
//	POST /2010-04-01/Accounts/<sid>/Messages.json   takes text messages, as Twilio's API
//	GET  /mailbox, /mailbox.json            what came in
//	GET  /                                  what this is
//
// What it keeps is in memory, and bounded.
package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/lifecycle"
)

// Notice is part of every answer of the directory.
const Notice = "Sample data of the galley sandbox: none of these businesses exist."

const (
	maxResults     = 50
	maxQueryLength = 500
	maxBody        = 1 << 20
	headerTimeout  = 5 * time.Second
	readTimeout    = 30 * time.Second
	idleTimeout    = 2 * time.Minute
	drainTimeout   = 2 * time.Second
)

const about = `This is the sandbox of galley: what recipes can call before there is anything real to call.
Nothing here is real, and nothing leaves it.

A business directory of %d businesses
  GET  /search?q=dentists+in+california
  GET  /search?q=plumbers+in+seattle
  GET  /search?q=bakeries+texas
  Every answer is JSON: {"query", "notice", "results": [...], "total"}. There are at most 50 results, the best rated first.
  ` + Notice + `

A stand-in for a language model, with the API of OpenAI
  GET  /v1/models
  POST /v1/chat/completions
  It is not a language model: it answers the same to the same prompt, at once, and says what it is.

A mailbox
  GET  /mailbox          the latest %d e-mails, text messages and webhooks, as a page
  GET  /mailbox.json     the same as JSON
  POST /hooks/<name>     takes webhooks
  POST /2010-04-01/Accounts/<sid>/Messages.json
                         takes text messages, with the API of Twilio
  SMTP %s
  Nothing of it is sent to anybody.

Start galley with --no-sandbox to do without it.
`

// Config says where the sandbox is served.
type Config struct {
	// HTTPAddr and SMTPAddr are host:port. Without SMTPAddr the mailbox takes no e-mail.
	HTTPAddr, SMTPAddr string
	Clock              clock.Clock
}

// Answer is the body of a search.
type Answer struct {
	Query   string     `json:"query"`
	Notice  string     `json:"notice"`
	Results []Business `json:"results"`
	// Total counts what fits; Results holds the best of them.
	Total int `json:"total"`
}

// sandbox is all of it.
type sandbox struct {
	config    Config
	directory *Directory
	model     *model
	mailbox   *mailbox
	page      *page
}

func newSandbox(config Config) (*sandbox, error) {
	page, err := newPage()
	if err != nil {
		return nil, fmt.Errorf("read the page of the mailbox: %w", err)
	}
	return &sandbox{
		config: config, directory: NewDirectory(), model: &model{clock: config.Clock}, mailbox: &mailbox{clock: config.Clock}, page: page,
	}, nil
}

// handler serves what there is over HTTP.
func (s *sandbox) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.serveIndex)
	mux.HandleFunc("GET /search", s.serveSearch)
	mux.HandleFunc("GET /v1/models", s.model.serveModels)
	mux.HandleFunc("POST /v1/chat/completions", s.model.serveCompletion)
	mux.HandleFunc("POST /hooks/{name}", s.mailbox.serveHook)
	mux.HandleFunc("POST /2010-04-01/Accounts/{sid}/Messages.json", s.mailbox.serveSMS)
	mux.HandleFunc("GET /mailbox.json", s.mailbox.serveJSON)
	mux.HandleFunc("GET /mailbox", s.servePage)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		mux.ServeHTTP(w, r)
	})
}

func (s *sandbox) serveIndex(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	smtp := "(not served)"
	if s.config.SMTPAddr != "" {
		smtp = s.config.SMTPAddr + "   takes e-mail from anybody, without encryption, with any user name and password or none"
	}
	_, _ = fmt.Fprintf(w, about, len(s.directory.businesses), maxMessages, smtp)
}

func (s *sandbox) serveSearch(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query().Get("q")
	if query == "" || len(query) > maxQueryLength {
		message := fmt.Sprintf("q must hold what to search for, in at most %d bytes: /search?q=dentists+in+california", maxQueryLength)
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": message, "notice": Notice})
		return
	}
	found := s.directory.Search(query)
	answer := Answer{Query: query, Notice: Notice, Results: []Business{}, Total: len(found)}
	answer.Results = append(answer.Results, found[:min(len(found), maxResults)]...)
	writeJSON(w, http.StatusOK, answer)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// An error means that the caller has gone.
	_ = json.NewEncoder(w).Encode(body)
}

// Serve serves the sandbox until ctx ends; requests under way are given two seconds then.
func Serve(ctx context.Context, config Config) error {
	s, err := newSandbox(config)
	if err != nil {
		return err
	}
	var listen net.ListenConfig
	web, err := listen.Listen(ctx, "tcp", config.HTTPAddr)
	if err != nil {
		return fmt.Errorf("serve the sandbox: %w", err)
	}
	if config.SMTPAddr == "" {
		return s.serveWeb(ctx, web)
	}
	mail, err := listen.Listen(ctx, "tcp", config.SMTPAddr)
	if err != nil {
		return errors.Join(fmt.Errorf("serve the mailbox of the sandbox: %w", err), web.Close())
	}
	return lifecycle.Run(ctx,
		func(ctx context.Context) error { return s.serveWeb(ctx, web) },
		func(ctx context.Context) error { return s.mailbox.serveSMTP(ctx, mail) },
	)
}

func (s *sandbox) serveWeb(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout,
	}
	err := serveUntil(ctx, func() error { return server.Serve(listener) }, server.Shutdown, server.Close)
	if err != nil {
		return fmt.Errorf("serve the sandbox: %w", err)
	}
	return nil
}

// serveUntil runs a server until ctx ends, drains it then, and closes what does not end in time. An error says that it ended before.
func serveUntil(ctx context.Context, serve func() error, drain func(ctx context.Context) error, abort func() error) error {
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		stopped <- drain(patience)
	})
	err := serve()
	if stop() {
		return err
	}
	if err := <-stopped; err != nil {
		_ = abort()
	}
	return nil
}
