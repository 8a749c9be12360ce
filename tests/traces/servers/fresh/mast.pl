#!/usr/bin/perl
# perl mast.pl MODE [A]: Mojolicious.
#   circles  leak: what is to be done later holds the controller, which holds it
#   cards    Mojo::Cache of A cards
use Mojolicious::Lite -signatures;
use Mojo::Cache;
use Mojo::Server::Daemon;

my ($mode, $size) = @ARGV;
my @words = qw(mast sail rope port wind north knot chart crew deck and watch night);
my $cache = Mojo::Cache->new(max_keys => $size // 1);

sub prose ($n) { join ' ', map { $words[rand @words] } 1 .. $n }

sub voyage ($id) {
  return {id => $id, title => prose(5), text => prose(100 + int rand 500), crew => [map { {name => prose(2), duty => prose(15)} } 0 .. int rand 12]};
}

get '/item/:id' => sub ($c) {
  my $voyage;
  if ($mode eq 'circles') {
    $voyage = voyage($c->param('id'));
    $c->stash(voyage => $voyage);
    $c->stash(later => sub { $c->app->log->debug($c->stash('voyage')->{title}) });
  } else {
    my $key = int($size * 4 * ($c->param('id') / 1e9)**2);
    $voyage = $cache->get($key);
    $cache->set($key => $voyage = voyage($key)) unless $voyage;
  }
  $c->render(json => $voyage);
};

app->log->level('fatal');
Mojo::Server::Daemon->new(app => app, listen => ["http://127.0.0.1:$ENV{PORT}"], silent => 1)->run;
