// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/esky-hpc/esky/internal/native"
	"github.com/esky-hpc/esky/plugin"
	"github.com/esky-hpc/esky/test/harness"
)

// What is here is a host and a plugin of the time when the protocol was new. They know
// its messages from plugin/wire/testdata, and nothing that came later; do not teach
// them anything.

// handshakeV1 is that of the time.
var handshakeV1 = goplugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "ESKY_PLUGIN", MagicCookieValue: "checkpoint-and-restart"}

// serviceV1 reads what providers were asked.
func serviceV1(file string) (protoreflect.ServiceDescriptor, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	f := new(descriptorpb.FileDescriptorProto)
	if err := proto.Unmarshal(b, f); err != nil {
		return nil, err
	}
	d, err := protodesc.NewFile(f, nil)
	if err != nil {
		return nil, err
	}
	return d.Services().Get(0), nil
}

const nameV1 = "provider-v1.pb"

func fileV1() string { return filepath.Join(harness.Root(), "plugin/wire/testdata", nameV1) }

// connV1 is the connection of a plugin, as go-plugin has it for the old host, or
// nothing for the old plugin, which answers by its own handler.
type connV1 struct {
	goplugin.NetRPCUnsupportedPlugin
}

func (connV1) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error { return nil }
func (connV1) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return c, nil
}

// serveV1 is the main function of the old plugin: our provider, but for everything
// that is not of its time.
func serveV1(file string) {
	for fd := 3; fd < 10; fd++ { // the host's streams are for those jobs that are given them
		syscall.CloseOnExec(fd)
	}
	service, err := serviceV1(file)
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "inner"))
	if err != nil {
		log.Fatal(err)
	}
	inner := grpc.NewServer()
	plugin.RegisterProvider(inner, native.New("0.1"))
	go inner.Serve(l)
	conn, err := grpc.NewClient("unix:"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: handshakeV1, Plugins: goplugin.PluginSet{"provider": connV1{}},
		GRPCServer: func(o []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(o, grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error { return passV1(service, conn, s) }))...)
		},
	})
}

// passV1 passes one call on, and its answers back.
func passV1(service protoreflect.ServiceDescriptor, conn *grpc.ClientConn, s grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(s)
	m := service.Methods().ByName(protoreflect.Name(path.Base(name)))
	if m == nil {
		return status.Error(codes.Unimplemented, "unknown method "+name)
	}
	q := dynamicpb.NewMessage(m.Input())
	if err := s.RecvMsg(q); err != nil {
		return err
	}
	c, err := conn.NewStream(s.Context(), &grpc.StreamDesc{ServerStreams: true}, name)
	if err == nil {
		err = c.SendMsg(knownV1(q))
	}
	if err == nil {
		err = c.CloseSend()
	}
	for err == nil {
		a := dynamicpb.NewMessage(m.Output())
		if err = c.RecvMsg(a); err == nil {
			err = s.SendMsg(knownV1(a))
		}
	}
	if err == io.EOF {
		return nil
	}
	s.SetTrailer(c.Trailer())
	return err
}

// knownV1 is what of a message was known then.
func knownV1(m *dynamicpb.Message) *dynamicpb.Message {
	b, err := proto.Marshal(m)
	known := dynamicpb.NewMessage(m.Descriptor())
	if err == nil {
		err = proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(b, known)
	}
	if err != nil {
		log.Fatal(err)
	}
	fields := m.Descriptor().Fields()
	switch m.Descriptor().Name() {
	case "Description":
		list := known.Mutable(fields.ByName("capabilities")).List()
		list.Truncate(0)
		for _, c := range []string{"run-on", "stand-still", "migrate"} {
			list.Append(protoreflect.ValueOfString(c))
		}
	case "Exit": // a status as shells show it was all it knew
		if sig := known.Get(fields.ByName("signal")).Int(); sig != 0 {
			known.Set(fields.ByName("code"), protoreflect.ValueOfInt32(int32(128+sig)))
			known.Clear(fields.ByName("signal"))
		}
	}
	return known
}

// TestOldPlugin: a plugin that knows nothing of what came after it saves jobs as it
// did: the host makes the checksums, and a program that asks for a checkpoint is told
// that there is none.
func TestOldPlugin(t *testing.T) {
	if os.Getenv(providerVar) != "" {
		t.Skip("part of the outer run")
	}
	t.Parallel()
	j := badJob(t, "v1")
	b, err := os.ReadFile(fileV1())
	if err != nil {
		t.Fatal(err)
	}
	j.Write(nameV1, string(b))
	j.Argv = asks(t, j)
	r := j.Start()
	j.Checkpoint()
	j.Checkpoint("--stop")
	r.WaitFor(harness.ExitAgain)
	for _, dir := range j.Generations() {
		if m, err := os.ReadFile(filepath.Join(dir, "manifest")); err != nil || !strings.HasPrefix(string(m), "esky-image 3\n") {
			t.Errorf("%v: %s", err, m)
		}
	}
	damage(t, j.Generations()[1])
	r = j.Start()
	r.Until("it is resumed", func() bool { return strings.Contains(r.Stderr(), "resumed job from checkpoint 1") })
	j.Write("ask", "")
	r.Until("who asks is answered", func() bool { return j.Read("answers") == "-1\n" })
	j.Write("go", "")
	r.WaitFor(3)
}

// hostV1 is an old host.
type hostV1 struct {
	*testing.T
	service protoreflect.ServiceDescriptor
	conn    *grpc.ClientConn
}

// ask makes a call with a request in protobuf's text format, and returns the last
// answer in it, "" for an empty one.
func (h *hostV1) ask(method, request string) (*dynamicpb.Message, string, error) {
	h.Helper()
	m := h.service.Methods().ByName(protoreflect.Name(method))
	q := dynamicpb.NewMessage(m.Input())
	if err := prototext.Unmarshal([]byte(request), q); err != nil {
		h.Fatalf("%s %s: %v", method, request, err)
	}
	s, err := h.conn.NewStream(h.Context(), &grpc.StreamDesc{ServerStreams: true}, fmt.Sprintf("/%s/%s", h.service.FullName(), method))
	if err == nil {
		err = s.SendMsg(q)
	}
	if err == nil {
		err = s.CloseSend()
	}
	var last *dynamicpb.Message
	for err == nil {
		a := dynamicpb.NewMessage(m.Output())
		if err = s.RecvMsg(a); err == nil {
			last = a
		}
	}
	if err == io.EOF {
		return last, "", nil
	}
	return nil, strings.Join(s.Trailer().Get("esky-kind"), " "), err
}

// get makes a call that must succeed, and returns one field of the answer.
func (h *hostV1) get(field, method, request string, args ...any) protoreflect.Value {
	h.Helper()
	a, _, err := h.ask(method, fmt.Sprintf(request, args...))
	if err != nil {
		h.Fatalf("%s: %v", method, err)
	}
	if field == "" {
		return protoreflect.ValueOfMessage(a)
	}
	return a.Get(a.Descriptor().Fields().ByName(protoreflect.Name(field)))
}

func text(v protoreflect.Value) string {
	return prototext.MarshalOptions{}.Format(v.Message().Interface())
}

// TestOldHost: a host that knows nothing of what came after it runs, saves, kills and
// resumes a job by our provider of today.
func TestOldHost(t *testing.T) {
	path := os.Getenv(providerVar)
	if path == "" {
		t.Parallel()
		inner(t, fileV1())
		return
	}
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: handshakeV1, Plugins: goplugin.PluginSet{"provider": connV1{}}, Cmd: exec.Command(path),
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC}, StartTimeout: harness.Patience,
	})
	defer client.Kill()
	protocol, err := client.Client()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := protocol.Dispense("provider")
	if err != nil {
		t.Fatal(err)
	}
	service, err := serviceV1(nameV1)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, d := range []string{"state", "image"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	converseV1(&hostV1{t, service, conn.(*grpc.ClientConn)}, dir)
}

func converseV1(h *hostV1, dir string) {
	if name := h.get("name", "Describe", `host: "old 1"`).String(); name != "native" {
		h.Errorf("its name is %q", name)
	}
	if !h.get("usable", "Probe", `state_dir: "%s/state"`, dir).Bool() {
		h.Fatal("it cannot work here")
	}
	streams := fmt.Sprintf(`streams { stdout: "%s/stdout" }`, dir)
	job := text(h.get("", "Start", `argv: "/bin/sh" argv: "-c" argv: "while [ ! -e go ]; do sleep 0.01; done; echo end; exit 3"
		env: "PATH=/usr/bin:/bin" dir: "%s" state_dir: "%[1]s/state" %s`, dir, streams))
	if image := h.get("image", "Checkpoint", `job { %s } dir: "%s/image" generation: 1`, job, dir).Message(); !image.IsValid() {
		h.Error("the last answer has no image")
	}
	if _, kind, err := h.ask("Finish", fmt.Sprintf("job { %s }", job)); status.Code(err) != codes.InvalidArgument || kind != "usage" {
		h.Errorf("finish without a stop: %v (%s)", err, kind)
	}
	h.get("", "Signal", `job { %s } signal: 9 all: true`, job)
	if code, sig := h.get("code", "Wait", "%s", job).Int(), h.get("signal", "Wait", "%s", job).Int(); code != 137 && sig != 9 {
		h.Errorf("killed, it ended with %d, signal %d", code, sig)
	}
	h.get("", "VerifyImage", `dir: "%s/image"`, dir)
	resumed := h.get("resumed", "Resume", `dir: "%s/image" state_dir: "%[1]s/state" %s`, dir, streams).Message()
	job = text(resumed.Get(resumed.Descriptor().Fields().ByName("job")))
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		h.Fatal(err)
	}
	if code := h.get("code", "Wait", "%s", job).Int(); code != 3 {
		h.Errorf("it ended with %d", code)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "stdout")); err != nil || string(b) != "end\n" {
		h.Errorf("it wrote %q, %v", b, err)
	}
	h.get("", "RemoveImage", `dir: "%s/image"`, dir)
}
