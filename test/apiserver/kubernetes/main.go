// Command kubernetes is a kube-apiserver on an etcd of its own, both on loopback. It keeps all it has in a directory,
// the one argument, where it writes for kubectl how to reach it (the file "config"), and it ends with its standard
// input, so that it outlives no test. Called by the name kubectl it is that.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

func main() {
	if filepath.Base(os.Args[0]) == "kubectl" {
		os.Exit(cli.Run(cmd.NewDefaultKubectlCommand()))
	}
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: kubernetes DIRECTORY")
		os.Exit(2)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if err := serve(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve runs both until the context ends.
func serve(ctx context.Context, dir string) error {
	store, err := etcd(ctx, filepath.Join(dir, "etcd"))
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer store.Close()
	key, err := accountKey(dir)
	if err != nil {
		return err
	}
	// a free port, held from here on
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	tokens, err := configure(dir, listener.Addr().String())
	if err != nil {
		return err
	}
	s := options.NewServerRunOptions()
	s.SecureServing.Listener, s.SecureServing.BindPort = listener, listener.Addr().(*net.TCPAddr).Port
	flags := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	for _, set := range s.Flags().FlagSets {
		flags.AddFlagSet(set)
	}
	err = flags.Parse([]string{ // as kubeadm sets them
		"--etcd-servers=http://" + store.Clients[0].Addr().String(),
		"--cert-dir=" + dir, "--token-auth-file=" + tokens, "--authorization-mode=RBAC", "--allow-privileged",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + key, "--service-account-signing-key-file=" + key,
		"--service-cluster-ip-range=10.96.0.0/12", "--endpoint-reconciler-type=none",
	})
	if err == nil {
		err = s.GenericServerRunOptions.ComponentGlobalsRegistry.Set()
	}
	if err != nil {
		return err
	}
	completed, err := s.Complete(ctx)
	if err != nil {
		return err
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return errors.Join(errs...)
	}
	return app.Run(ctx, completed)
}

// etcd starts one on free ports.
func etcd(ctx context.Context, dir string) (*embed.Etcd, error) {
	c := embed.NewConfig()
	c.Dir, c.LogLevel = dir, "error"
	free := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c.ListenClientUrls, c.ListenPeerUrls, c.AdvertiseClientUrls, c.AdvertisePeerUrls = free, free, free, free
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	e, err := embed.StartEtcd(c)
	if err != nil {
		return nil, err
	}
	select {
	case <-e.Server.ReadyNotify():
		return e, nil
	case err = <-e.Err():
	case <-ctx.Done():
		err = ctx.Err()
	}
	e.Close()
	return nil, err
}

// accountKey makes the key by which accounts of pods are signed.
func accountKey(dir string) (file string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	text, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return "", err
	}
	file = filepath.Join(dir, "accounts.key")
	return file, os.WriteFile(file, text, 0o600)
}

// configure makes an administrator: one file tells kubectl, the other, which it returns, the server.
func configure(dir, address string) (tokens string, err error) {
	token := rand.Text()
	config := api.NewConfig()
	config.Clusters["test"] = &api.Cluster{Server: "https://" + address, InsecureSkipTLSVerify: true}
	config.AuthInfos["admin"] = &api.AuthInfo{Token: token}
	config.Contexts["test"] = &api.Context{Cluster: "test", AuthInfo: "admin"}
	config.CurrentContext = "test"
	tokens = filepath.Join(dir, "tokens.csv")
	if err := os.WriteFile(tokens, []byte(token+",admin,admin,system:masters\n"), 0o600); err != nil {
		return "", err
	}
	return tokens, clientcmd.WriteToFile(*config, filepath.Join(dir, "config"))
}
