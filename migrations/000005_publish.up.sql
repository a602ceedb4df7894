-- publish logs and announces an event that is no row. To forge an event is to have the right to call this.
create function notifyql.publish(
  channel    text,
  data       jsonb,
  tenant     text    default null,
  shared     boolean default false,
  event_type text    default ''
) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  event json := coalesce(data, 'null')::text;
  done  boolean;
begin
  shared := coalesce(shared, false);
  event_type := coalesce(event_type, '');
  if channel is null or channel = '' or octet_length(channel) > 255 then
    raise exception 'publish: the channel''s name must have 1 to 255 bytes' using errcode = 'invalid_parameter_value';
  end if;
  if octet_length(event_type) > 255 then
    raise exception 'publish: the event''s type must have at most 255 bytes' using errcode = 'invalid_parameter_value';
  end if;
  if shared and tenant is not null then
    raise exception 'publish: an event is one tenant''s or shared, not both'
      using errcode = 'invalid_parameter_value', hint = 'Leave out tenant, or shared => true.';
  end if;
  if not shared and coalesce(tenant, '') = '' then
    raise exception 'publish: the event would be nobody''s, for it names no tenant and is not shared'
      using errcode = 'invalid_parameter_value', hint = 'Pass tenant => ''…'', or shared => true for every tenant.';
  end if;

  insert into notifyql.change as c (watch, op, shared, tenant, channel, event_type, new)
  values (0, 'E', publish.shared, publish.tenant, publish.channel, publish.event_type, event)
  returning notifyql.announced(c) into done;
end
$$;

do $$
begin
  execute format('grant execute on function notifyql.publish(text, jsonb, text, boolean, text) to %I',
    left(current_user, -length('owner')) || 'server');
end
$$;
