package node

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// httpServer serves /healthz (the process is up), /readyz (the broker serves; text is what
// it then says) and /metrics. The console will have "/", its JSON API "/api/v1/".
func httpServer(ready func() error, text func() string, metrics http.Handler) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(text()))
	})
	mux.Handle("GET /metrics", metrics)
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}

// serveHTTP serves until ctx ends.
func serveHTTP(ctx context.Context, s *http.Server, ln net.Listener) error {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		grace, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if s.Shutdown(grace) != nil {
			_ = s.Close()
		}
	})
	err := s.Serve(ln)
	if !stop() {
		<-done // Serve returns when the shutdown begins, not when it is over
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
