package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fulgidus/heimdall/agent/quota"
	"github.com/fulgidus/heimdall/agent/spool"
	"github.com/fulgidus/heimdall/agent/survey"
	"github.com/fulgidus/heimdall/protocol"
)

// controlServer answers other heimdall-agent commands over a socket that only the agent's own account can open. It
// speaks HTTP: GET /status; POST /switch, which answers when the station does what its own switch says; GET /tap, which streams one JSON line for each measurement; GET /spool/stat; and
// GET /spool/records, which streams one for each record of the spool.
type controlServer struct {
	agent    *Agent
	listener net.Listener
}

func controlPath(stateDir string) string { return filepath.Join(stateDir, "control.sock") }

// listenControl takes the socket. One left behind by a killed agent is replaced: the spool's lock has already told that no
// other agent runs here.
func listenControl(ctx context.Context, a *Agent) (*controlServer, error) {
	path := controlPath(a.cfg.Spool.Path)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("replace the control socket: %w", err)
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("open the control socket %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("protect the control socket: %w", err)
	}
	return &controlServer{agent: a, listener: l}, nil
}

const (
	// readWait is how long a reader of the tap may take for a line before it is left.
	readWait = time.Second
	// answerWait is how long answers under way are waited for at the end: longer than readWait, so that they do end.
	answerWait = 2 * readWait
)

// run serves until the context ends and every answer with it: an answer looks at the spool, which is closed next.
func (c *controlServer) run(ctx context.Context, log *slog.Logger) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", c.status)
	mux.HandleFunc("POST /switch", c.obey)
	mux.HandleFunc("GET /tap", c.tap)
	mux.HandleFunc("GET /spool/stat", c.spoolStat)
	mux.HandleFunc("GET /spool/records", c.spoolRecords)
	serveUntil(ctx, c.listener, mux, log)
}

// serveUntil serves until the context ends and every answer with it.
func serveUntil(ctx context.Context, l net.Listener, handler http.Handler, log *slog.Logger) {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWait)
		defer cancel()
		if err := server.Shutdown(ending); err != nil {
			log.WarnContext(ctx, "an answer was cut off", "error", err)
			server.Close()
		}
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		log.WarnContext(ctx, "nobody is answered any more", "error", err)
	}
	<-done
}

// status is what the running agent says of itself.
type status struct {
	Station  string         `json:"station"`
	Version  string         `json:"version"`
	UptimeS  float64        `json:"uptime_s"`
	State    protocol.State `json:"state"`
	Info     protocol.Info  `json:"info"`
	Spool    spoolStatus    `json:"spool"`
	Broker   linkStatus     `json:"broker"`
	Daily    *quota.Account `json:"daily,omitempty"` // absent: no delivery.daily_bytes
	Clock    clockStatus    `json:"clock"`
	StateDir string         `json:"state_dir"`
}

type spoolStatus struct {
	Identity   string `json:"spool"`
	Records    int64  `json:"records"`
	Bytes      int64  `json:"bytes"`
	LimitBytes int64  `json:"limit_bytes"`
	LastSeq    uint64 `json:"last_seq"`
	Shed       uint64 `json:"shed"`

	Disk diskStatus `json:"disk"`
}

type clockStatus struct {
	Set         bool    `json:"set"`
	Quality     string  `json:"quality"`
	UncertainS  float64 `json:"uncertainty_s,omitempty"`
	StepsTotal  uint32  `json:"steps_total"`
	LastStepS   float64 `json:"last_step_s,omitempty"`
	HeldRecords int     `json:"held_records,omitempty"` // made while it was not set, and waiting for it
}

type linkStatus struct {
	URL               string `json:"url,omitempty"`
	Connected         bool   `json:"connected"`
	CollectorOnline   bool   `json:"collector_online"`
	DuplicateIdentity bool   `json:"duplicate_identity,omitempty"`
	Acknowledged      uint64 `json:"acknowledged"`
	// FirstAcknowledgedS is how long after the start the first record was; 0 before that.
	FirstAcknowledgedS float64 `json:"first_acknowledged_s,omitempty"`
}

func (c *controlServer) status(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(c.agent.status()) // the reader went away: nobody is left to tell
}

func (c *controlServer) obey(w http.ResponseWriter, r *http.Request) {
	if err := c.agent.duty.obey(r.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

func (c *controlServer) tap(w http.ResponseWriter, r *http.Request) {
	connection := http.NewResponseController(w)
	encode := json.NewEncoder(w)
	_ = connection.Flush() // the reader knows at once that it is answered, though nothing may be heard for long
	_ = c.agent.tap(r.Context(), func(line tapLine) error {
		if err := connection.SetWriteDeadline(time.Now().Add(readWait)); err != nil {
			return err
		}
		if err := encode.Encode(line); err != nil {
			return err
		}
		return connection.Flush()
	}) // ends with the reader
}

func (c *controlServer) spoolStat(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	st := c.agent.spool.Stats()
	_ = json.NewEncoder(w).Encode(newSpoolReport(c.agent.cfg, st.Limit, st)) // the reader went away: nobody is left to tell
}

// spoolRecords streams a line for each record of the spool, then an empty one that says that these were all.
func (c *controlServer) spoolRecords(w http.ResponseWriter, r *http.Request) {
	var lanes []spool.Lane
	if lane := r.FormValue("lane"); lane != "" {
		lanes = append(lanes, spool.Lane(lane))
	}
	connection := http.NewResponseController(w)
	encode := json.NewEncoder(w)
	whole := r.FormValue("whole") == "true"
	err := c.agent.spool.Entries(func(e spool.Entry) error {
		if err := r.Context().Err(); err != nil {
			return err
		}
		if err := connection.SetWriteDeadline(time.Now().Add(readWait)); err != nil {
			return err
		}
		return encode.Encode(newSpoolLine(e, whole))
	}, lanes...)
	var last spoolLine
	if err != nil {
		last.Error = err.Error()
	}
	_ = encode.Encode(last) // the reader went away: nobody is left to tell
}

// tap hands over a line for each measurement of each receiver until the context ends or handle fails.
func (a *Agent) tap(ctx context.Context, handle func(tapLine) error) error {
	ctx, stop := context.WithCancel(ctx)
	snapshots := make(chan survey.Snapshot) // capacity 0: each subscription has its own bounded queue
	var forwarding sync.WaitGroup
	defer forwarding.Wait()
	for _, r := range a.receivers {
		from, cancel := r.survey.Subscribe()
		defer cancel()
		forwarding.Go(func() { forward(ctx, from, snapshots) })
	}
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-snapshots:
			if err := handle(a.tapLine(s)); err != nil {
				return err
			}
		}
	}
}

// forward passes snapshots on until their subscription or the context ends.
func forward(ctx context.Context, from <-chan survey.Snapshot, to chan<- survey.Snapshot) {
	for s := range from {
		select {
		case to <- s:
		case <-ctx.Done():
		}
	}
}

// errNotRunning tells that nobody listens on the control socket.
var errNotRunning = errors.New("no agent is running here")

// askAgent asks the running agent of a state directory; errNotRunning tells that there is none.
func askAgent(ctx context.Context, stateDir, path string) (io.ReadCloser, error) {
	return requestAgent(ctx, http.MethodGet, stateDir, path)
}

func requestAgent(ctx context.Context, method, stateDir, path string) (io.ReadCloser, error) {
	socket := controlPath(stateDir)
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, // one question a command
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the agent: %w", err)
	}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("ask the agent at %s: %w; run this command under the agent's account", socket, err)
	case refusedDial(err) && ctx.Err() == nil:
		return nil, fmt.Errorf("%w (%s)", errNotRunning, socket)
	case err != nil:
		return nil, fmt.Errorf("ask the agent at %s: %w", socket, err)
	case resp.StatusCode != http.StatusOK:
		resp.Body.Close()
		return nil, fmt.Errorf("ask the agent at %s for %s: it answers %s; use the version of this program that it runs", socket, path, resp.Status)
	}
	return resp.Body, nil
}

// refusedDial tells whether nobody took the connection: there is no socket, or the one of an agent that was killed.
func refusedDial(err error) bool {
	dial, ok := errors.AsType[*net.OpError](err)
	return ok && dial.Op == "dial" && !dial.Timeout()
}
