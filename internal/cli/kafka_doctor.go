package cli

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxDoctorAnswer bounds an answer that doctor reads; a cluster's metadata without topics
// is far below.
const maxDoctorAnswer = 1 << 20

// errNotKafka says that somebody answered, but not in Kafka's protocol.
type errNotKafka struct{ what, hint string }

func (e *errNotKafka) Error() string { return e.what }

// probe is one plain connection to a broker, without retries and without a second
// address: doctor must see each step by itself.
type probe struct {
	conn net.Conn
	corr int32
}

// ask sends a request and reads its answer. Only versions without flexible headers are
// used, which every broker answers.
func (p *probe) ask(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	if d, ok := ctx.Deadline(); ok {
		if err := p.conn.SetDeadline(d); err != nil {
			return nil, err
		}
	}
	p.corr++
	f := kmsg.NewRequestFormatter(kmsg.FormatterClientID("kalda-doctor"))
	if _, err := p.conn.Write(f.AppendRequest(nil, req, p.corr)); err != nil {
		return nil, err
	}
	var head [8]byte
	if n, err := io.ReadFull(p.conn, head[:]); err != nil {
		return nil, notKafka(head[:n], err)
	}
	size := int32(binary.BigEndian.Uint32(head[:]))
	if size < 4 || size > maxDoctorAnswer {
		return nil, notKafka(head[:], fmt.Errorf("an answer of %d bytes", size))
	}
	if got := int32(binary.BigEndian.Uint32(head[4:])); got != p.corr {
		return nil, notKafka(head[:], fmt.Errorf("an answer to request %d instead of %d", got, p.corr))
	}
	body := make([]byte, size-4)
	if _, err := io.ReadFull(p.conn, body); err != nil {
		return nil, err
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	return resp, resp.ReadFrom(body)
}

// notKafka names the protocols that are met on a wrong port.
func notKafka(head []byte, err error) error {
	switch {
	case len(head) >= 5 && string(head[:5]) == "HTTP/":
		return &errNotKafka{"it speaks HTTP, not Kafka's protocol", "this is an HTTP port (kalda's own serves /metrics, kalda.http.listen); Kafka's is usually 9092"}
	case len(head) >= 2 && (head[0] == 0x15 || head[0] == 0x16) && head[1] == 3: // a TLS alert or handshake record
		return &errNotKafka{"it wants TLS", "this version of the tools speaks PLAINTEXT only; use a PLAINTEXT listener"}
	case len(head) == 0 && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)):
		return &errNotKafka{"it closed the connection without an answer", "a listener that wants TLS or SASL, or the port of another program"}
	}
	return err
}

// silent finds out who takes a connection and answers nothing to a request of Kafka's. A web
// server waits for the end of a line, which that request has not: it gets one.
func (p *probe) silent() error {
	if err := p.conn.SetDeadline(time.Now().Add(silentWait)); err != nil {
		return err
	}
	if _, err := io.WriteString(p.conn, " HTTP/1.0\r\n\r\n"); err == nil {
		var head [8]byte
		n, err := io.ReadFull(p.conn, head[:])
		var other *errNotKafka
		if errors.As(notKafka(head[:n], err), &other) {
			return other
		}
	}
	return &errNotKafka{"it takes the connection and does not answer", "the port of another program, or a broker that hangs: compare the port with 'listeners' there"}
}

// silentWait is how long a web server may take to answer nonsense.
const silentWait = time.Second

// apiVersions asks which requests the broker knows and returns their number.
func (p *probe) apiVersions(ctx context.Context) (int, error) {
	req := kmsg.NewPtrApiVersionsRequest()
	req.SetVersion(0)
	resp, err := p.ask(ctx, req)
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		err = p.silent()
	}
	if err != nil {
		return 0, err
	}
	r := resp.(*kmsg.ApiVersionsResponse)
	return len(r.ApiKeys), errorOf(r.ErrorCode, nil)
}

// metadata asks for the cluster's id and brokers.
func (p *probe) metadata(ctx context.Context) (id string, controller int32, brokers []brokerInfo, err error) {
	req := kmsg.NewPtrMetadataRequest()
	req.SetVersion(2)                          // the first with a cluster id
	req.Topics = []kmsg.MetadataRequestTopic{} // none
	resp, err := p.ask(ctx, req)
	if err != nil {
		return "", -1, nil, err
	}
	r := resp.(*kmsg.MetadataResponse)
	for _, b := range r.Brokers {
		bi := brokerInfo{ID: b.NodeID, Host: b.Host, Port: b.Port}
		if b.Rack != nil {
			bi.Rack = *b.Rack
		}
		brokers = append(brokers, bi)
	}
	if r.ClusterID != nil {
		id = *r.ClusterID
	}
	return id, r.ControllerID, brokers, nil
}

// dialTimeout bounds one attempt of doctor: an address that drops packets answers never.
const dialTimeout = 5 * time.Second
