# ruby tavern.rb MODE [A]: a thread for each connection, and what a tavern keeps.
#   rounds  leak: activesupport; each order subscribes to what is served, and does not unsubscribe
#   tabs    leak: concurrent-ruby; a tab is closed by a task in a day, also when it was paid
#   dishes  activesupport; as many dishes as go into A KiB
#   toasts  liquid; toasts of up to A verses, parsed and rendered
require 'logger'
require 'active_support'
require 'active_support/cache'
require 'active_support/notifications'
require 'concurrent'
require 'json'
require 'liquid'
require 'socket'

MODE, SIZE = ARGV[0], ARGV[1].to_i
WORDS = %w[ale stew bread bench fire song tale cup round guest dice hearth smoke salt barrel and night]
DISHES = ActiveSupport::Cache::MemoryStore.new(size: [SIZE, 1].max * 1024)

def prose(n) = Array.new(n) { WORDS.sample }.join(' ')

def order(id)
  { id: id, name: prose(4), text: prose(50 + rand(250)), lines: Array.new(rand(14)) { |k| { at: k, what: prose(11) } } }
end

def answer(id)
  case MODE
  when 'rounds'
    found = order(id)
    ActiveSupport::Notifications.subscribe("served.table#{id % 60}") { |*, what| found[:served] = what[:name] }
    ActiveSupport::Notifications.instrument("served.table#{id % 60}", name: prose(2)) { found }
  when 'tabs'
    tab = order(id)
    Concurrent::ScheduledTask.execute(86_400) { tab[:closed] = true }
    tab
  when 'dishes'
    key = (4000 * (id / 1e9)**2).to_i
    DISHES.fetch("dish#{key}") { order(key).merge(picture: rand.to_s * rand(400)) }
  else
    verses = Array.new(1 + rand(SIZE)) { "{% for line in lines %}{% if line.at > #{rand(9)} %}#{prose(6)} {{ line.what | upcase }}{% endif %}{% endfor %}" }
    { toast: Liquid::Template.parse(verses.join("\n")).render(JSON.parse(order(id).to_json)) }
  end
end

server = TCPServer.new('127.0.0.1', ENV['PORT'].to_i)
loop do
  Thread.new(server.accept) do |client|
    id = 0
    while (line = client.gets)
      id = Regexp.last_match(1).to_i if line =~ %r{^GET /item/(\d+)}
      next unless line == "\r\n"

      body = answer(id).to_json
      client.write("HTTP/1.1 200 OK\r\nContent-Length: #{body.bytesize}\r\n\r\n#{body}")
    end
  end
end
