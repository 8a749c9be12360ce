# ruby barn.rb MODE [BYTES] [BOUND]: Sinatra under WEBrick.
#   journal  a list of what was asked
#   memoize  a hash with a default block, by path
#   recent   the last BOUND bales
#   churn    builds and drops
require 'sinatra/base'
require 'json'

MODE, BYTES, BOUND = ARGV[0], (ARGV[1] || 4000).to_i, (ARGV[2] || 1000).to_i

def bale
  { name: "bale #{rand}", straws: Array.new(BYTES / 100) { |n| "straw #{n} of #{rand}" } }
end

JOURNAL = []
MEMO = Hash.new { |hash, path| hash[path] = bale }

class Barn < Sinatra::Base
  set :server, 'webrick'
  set :bind, '127.0.0.1'
  set :port, ENV['PORT'].to_i
  set :environment, :production

  get '/*' do
    case MODE
    when 'journal' then JOURNAL << bale
    when 'memoize' then MEMO[request.path]
    when 'recent'
      JOURNAL << bale
      JOURNAL.shift if JOURNAL.size > BOUND
    else JSON.parse(JSON.generate(bale))
    end
    JSON.generate(bale[:straws].first(10))
  end
end

Barn.run!
