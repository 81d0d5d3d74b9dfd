package density

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"
)

const (
	// dialers open the idle connections.
	dialers = 16
	// activeTopic is the topic of the active connections, which the idle ones ask about.
	activeTopic = "active"
)

// holder is a process that holds idle connections.
type holder struct {
	cmd *exec.Cmd
	in  io.Closer
}

// hold starts o.Holder and waits until it has its connections.
func (o *Options) hold(ctx context.Context, n *node) (*holder, error) {
	h := &holder{cmd: exec.CommandContext(ctx, o.Holder[0], append(o.Holder[1:], n.Addr, strconv.Itoa(o.Idle))...)}
	h.cmd.Stderr = os.Stderr
	in, err := h.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	h.in = in
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		h.letGo()
		return nil, fmt.Errorf("the idle connections could not be opened: %w", err)
	}
	return h, nil
}

// letGo ends the process, and its connections with it.
func (h *holder) letGo() {
	_ = h.in.Close()
	_ = h.cmd.Wait()
}

// Hold opens n idle connections to addr, each of which asks what every client asks first,
// writes a line to out, and keeps them until in ends.
func Hold(ctx context.Context, addr string, n int, in io.Reader, out io.Writer) error {
	conns := make([]*conn, n)
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	g, ctx := errgroup.WithContext(ctx)
	for d := range dialers {
		g.Go(func() error {
			for i := d; i < n; i += dialers {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				c, err := dial(addr)
				if err != nil {
					return fmt.Errorf("connection %d: %w", i, err)
				}
				conns[i] = c
				if err := c.introduce(); err != nil {
					return fmt.Errorf("connection %d: %w", i, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, "open"); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, in)
	return err
}

// introduce asks for versions and metadata, and gives the memory for it back.
func (c *conn) introduce() error {
	versions := kmsg.NewPtrApiVersionsRequest()
	versions.Version, versions.ClientSoftwareName, versions.ClientSoftwareVersion = 3, "bench", "1"
	if _, err := c.ask(versions); err != nil {
		return err
	}
	md := kmsg.NewPtrMetadataRequest()
	md.Version = 9
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(activeTopic)
	md.Topics = append(md.Topics, t)
	_, err := c.ask(md)
	c.in, c.out = nil, nil
	return err
}
